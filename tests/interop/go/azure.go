// azservicebus for Go.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/coder/websocket"
)

const topic = "variables"

var background = context.Background()

func trust(options fields) *tls.Config {
	pem, err := os.ReadFile(options["ca"])
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func dial(options fields, token, mode string) *azservicebus.Client {
	text := fmt.Sprintf("Endpoint=sb://localhost:%s;SharedAccessSignature=%s;UseDevelopmentEmulator=true", options["amqp"], token)
	given := &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{RetryDelay: 200 * time.Millisecond}}
	if mode == "tls" {
		text = fmt.Sprintf("Endpoint=sb://localhost:%s;SharedAccessSignature=%s", options["amqps"], token)
		given.TLSConfig = trust(options)
	}
	if mode == "websocket" || mode == "websocket-plain" {
		text = fmt.Sprintf("Endpoint=sb://localhost:%s;SharedAccessSignature=%s", options["https"], token)
		given.NewWebSocketConn = func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return webSocket(ctx, options, mode)
		}
	}
	client, err := azservicebus.NewClientFromConnectionString(text, given)
	must(err)
	return client
}

func webSocket(ctx context.Context, options fields, mode string) (net.Conn, error) {
	where := fmt.Sprintf("wss://localhost:%s/$servicebus/websocket", options["https"])
	if mode == "websocket-plain" {
		where = fmt.Sprintf("ws://localhost:%s/$servicebus/websocket", options["http"])
	}
	transport := &http.Transport{TLSClientConfig: trust(options)}
	socket, _, err := websocket.Dial(ctx, where, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"amqp"},
	})
	if err != nil {
		return nil, err
	}
	socket.SetReadLimit(16 << 20)
	return websocket.NetConn(background, socket, websocket.MessageBinary), nil
}

type feed struct {
	options  fields
	base     int
	id       string
	address  string
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
}

func open(options fields, count int, mode string, given *azservicebus.ReceiverOptions) *feed {
	made := call("subscribe", "base", options["base"])
	f := &feed{options: options, base: options.number("base"), id: made["id"], address: made["address"]}
	f.client = dial(options, call("token", "path", f.address)["token"], mode)
	receiver, err := f.client.NewReceiverForSubscription(topic, f.id, given)
	must(err)
	f.receiver = receiver
	if count > 0 {
		f.publish(0, count)
	}
	return f
}

func on(count int, mode string, given *azservicebus.ReceiverOptions, scenario func(*feed)) func(fields) {
	return func(options fields) {
		f := open(options, count, mode, given)
		defer f.client.Close(background)
		scenario(f)
	}
}

// use connects with a token of its own life.
func (f *feed) use(seconds int) {
	f.client = dial(f.options, call("token", "path", f.address, "seconds", seconds)["token"], "plain")
	receiver, err := f.client.NewReceiverForSubscription(topic, f.id, nil)
	must(err)
	f.receiver = receiver
}

func (f *feed) publish(offset, count int) { call("publish", "base", f.base+offset, "count", count) }

func (f *feed) state(name string) int { return call("state", "id", f.id).number(name) }

func (f *feed) until(name string, wanted int) {
	until(fmt.Sprintf("%s %d", name, wanted), func() bool { return f.state(name) == wanted })
}

func (f *feed) offset(m *azservicebus.ReceivedMessage) int {
	return int(m.ApplicationProperties["value"].(int64)) - f.base
}

func (f *feed) take(receiver *azservicebus.Receiver, count int) []*azservicebus.ReceivedMessage {
	got := []*azservicebus.ReceivedMessage{}
	for len(got) < count {
		ctx, cancel := context.WithTimeout(background, 10*time.Second)
		more, err := receiver.ReceiveMessages(ctx, count-len(got), nil)
		cancel()
		must(err)
		got = append(got, more...)
	}
	return got
}

func (f *feed) complete(messages ...*azservicebus.ReceivedMessage) {
	for _, message := range messages {
		must(f.receiver.CompleteMessage(background, message, nil))
	}
}

func inOrder(f *feed, got []*azservicebus.ReceivedMessage, first int) {
	for at, message := range got {
		check(f.offset(message) == first+at, "%d is at %d", f.offset(message), at)
	}
}

func sender(f *feed) (*azservicebus.Client, *azservicebus.Sender) {
	client := dial(f.options, call("publisher")["token"], "plain")
	made, err := client.NewSender(topic, nil)
	must(err)
	return client, made
}

func message(f *feed, offset int, body string) *azservicebus.Message {
	return &azservicebus.Message{Body: []byte(body), ApplicationProperties: map[string]any{"value": int64(f.base + offset)}}
}

func stream(f *feed, disturb func()) {
	got := f.take(f.receiver, 3)
	f.complete(got...)
	f.until("backlog", 0)
	disturb()
	f.publish(3, 3)
	again := f.take(f.receiver, 3)
	inOrder(f, again, 3)
	f.complete(again...)
	f.until("backlog", 0)
}

func over(f *feed) {
	got := f.take(f.receiver, 2)
	must(f.receiver.RenewMessageLock(background, got[0], nil))
	f.complete(got[0])
	must(f.receiver.AbandonMessage(background, got[1], nil))
	f.complete(f.take(f.receiver, 1)...)
	f.until("backlog", 0)
}

// inTurn gives one token, and for renewals, which come before its end, the next.
type inTurn struct{ first, later azcore.AccessToken }

func (t inTurn) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if time.Until(t.first.ExpiresOn) > time.Minute {
		return t.first, nil
	}
	return t.later, nil
}

func text(value string) *string { return &value }

var azureScenarios = map[string]func(fields){
	"complete": on(3, "plain", nil, func(f *feed) {
		got := f.take(f.receiver, 3)
		inOrder(f, got, 0)
		f.complete(got...)
		f.until("backlog", 0)
	}),
	"abandon": on(1, "plain", nil, func(f *feed) {
		first := f.take(f.receiver, 1)[0]
		must(f.receiver.AbandonMessage(background, first, nil))
		again := f.take(f.receiver, 1)[0]
		check(again.DeliveryCount == first.DeliveryCount+1, "count %d", again.DeliveryCount)
		f.complete(again)
	}),
	"dead-letter": on(1, "plain", nil, func(f *feed) { bury(f) }),
	"dead-letter queue": on(1, "plain", nil, func(f *feed) {
		bury(f)
		dead, err := f.client.NewReceiverForSubscription(topic, f.id, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
		must(err)
		peeked, err := dead.PeekMessages(background, 5, nil)
		must(err)
		check(len(peeked) == 1, "%d peeked", len(peeked))
		letter := f.take(dead, 1)[0]
		check(*letter.DeadLetterReason == "broken", "reason")
		must(dead.RenewMessageLock(background, letter, nil))
		must(dead.CompleteMessage(background, letter, nil))
		f.until("dead", 0)
	}),
	"defer": on(1, "plain", nil, func(f *feed) {
		first := f.take(f.receiver, 1)[0]
		must(f.receiver.DeferMessage(background, first, nil))
		f.until("deferred", 1)
		got, err := f.receiver.ReceiveDeferredMessages(background, []int64{*first.SequenceNumber}, nil)
		must(err)
		check(len(got) == 1, "%d deferred", len(got))
		must(f.receiver.RenewMessageLock(background, got[0], nil))
		f.complete(got[0])
		f.until("backlog", 0)
	}),
	"renew": on(1, "plain", nil, func(f *feed) {
		first := f.take(f.receiver, 1)[0]
		before := *first.LockedUntil
		time.Sleep(1100 * time.Millisecond)
		must(f.receiver.RenewMessageLock(background, first, nil))
		check(first.LockedUntil.After(before), "the lock ends at %v", first.LockedUntil)
		f.complete(first)
	}),
	"receive and delete": on(3, "plain", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete}, func(f *feed) {
		inOrder(f, f.take(f.receiver, 3), 0)
		f.until("backlog", 0)
	}),
	"peek": on(5, "plain", nil, func(f *feed) {
		peeked, err := f.receiver.PeekMessages(background, 10, nil)
		must(err)
		check(len(peeked) == 5, "%d peeked", len(peeked))
		inOrder(f, peeked, 0)
		more, err := f.receiver.PeekMessages(background, 1, nil)
		must(err)
		check(len(more) == 0, "%d more", len(more))
	}),
	"stream": on(0, "plain", nil, func(f *feed) {
		for _, start := range []int{0, 10} {
			f.publish(start, 10)
			got := f.take(f.receiver, 10)
			inOrder(f, got, start)
			f.complete(got...)
		}
		f.until("backlog", 0)
	}),
	"reconnect after a close":   on(3, "plain", nil, func(f *feed) { stream(f, func() { call("close") }) }),
	"reconnect after a restart": on(3, "plain", nil, func(f *feed) { stream(f, func() { call("restart") }) }),
	"reconnect after a detach": on(3, "plain", nil, func(f *feed) {
		stream(f, func() { call("detach", "address", f.address) })
	}),
	"send": on(0, "plain", nil, func(f *feed) {
		client, out := sender(f)
		defer client.Close(background)
		sent := message(f, 0, "{}")
		sent.MessageID, sent.Subject = text("m1"), text("hello")
		must(out.SendMessage(background, sent, nil))
		got := f.take(f.receiver, 1)[0]
		check(got.MessageID == "m1" && *got.Subject == "hello", "it has changed")
		f.complete(got)
	}),
	"send a batch": on(0, "plain", nil, func(f *feed) {
		client, out := sender(f)
		defer client.Close(background)
		batch, err := out.NewMessageBatch(background, nil)
		must(err)
		for offset := 0; offset < 50; offset++ {
			must(batch.AddMessage(message(f, offset, "{}"), nil))
		}
		must(out.SendMessageBatch(background, batch, nil))
		got := f.take(f.receiver, 50)
		inOrder(f, got, 0)
		f.complete(got...)
	}),
	"send scheduled": on(0, "plain", nil, func(f *feed) {
		client, out := sender(f)
		defer client.Close(background)
		soon := time.Now().Add(2 * time.Second)
		numbers, err := out.ScheduleMessages(background, []*azservicebus.Message{message(f, 0, "{}"), message(f, 1, "{}")}, soon, nil)
		must(err)
		must(out.CancelScheduledMessages(background, numbers[1:], nil))
		must(out.SendMessage(background, message(f, 2, "{}"), nil))
		got := f.take(f.receiver, 2)
		check(f.offset(got[0]) == 2 && f.offset(got[1]) == 0, "%d, %d", f.offset(got[0]), f.offset(got[1]))
		f.complete(got...)
	}),
	"send 900 KB": on(0, "plain", nil, func(f *feed) {
		client, out := sender(f)
		defer client.Close(background)
		body := strings.Repeat("L", 900_000)
		must(out.SendMessage(background, message(f, 0, body), nil))
		got := f.take(f.receiver, 1)[0]
		check(string(got.Body) == body, "it has changed")
		f.complete(got)
	}),
	"TLS":                   on(2, "tls", nil, over),
	"WebSocket":             on(2, "websocket", nil, over),
	"WebSocket without TLS": on(2, "websocket-plain", nil, over),
	"properties": on(1, "plain", nil, func(f *feed) {
		first := f.take(f.receiver, 1)[0]
		must(f.receiver.AbandonMessage(background, first, &azservicebus.AbandonMessageOptions{
			PropertiesToModify: map[string]any{"tries": int32(1)},
		}))
		again := f.take(f.receiver, 1)[0]
		check(again.ApplicationProperties["tries"] == int32(1), "%v", again.ApplicationProperties)
		f.complete(again)
	}),
	// It renews a token ten minutes before its end, but never sooner than two minutes after the last.
	"token renewal": on(0, "plain", nil, func(f *feed) {
		f.client.Close(background)
		made := call("token", "path", f.address, "seconds", 130)
		first := azcore.AccessToken{Token: made["token"], ExpiresOn: time.Unix(int64(made.number("expires")), 0)}
		later := azcore.AccessToken{Token: call("token", "path", f.address)["token"], ExpiresOn: time.Now().Add(10 * time.Minute)}
		client, err := azservicebus.NewClient("localhost:"+f.options["amqps"], inTurn{first, later}, &azservicebus.ClientOptions{TLSConfig: trust(f.options)})
		must(err)
		f.client = client
		f.receiver, err = client.NewReceiverForSubscription(topic, f.id, nil)
		must(err)
		end := first.ExpiresOn.Add(3 * time.Second)
		for n := 0; n == 0 || time.Now().Before(end); n++ {
			f.publish(n, 1)
			f.complete(f.take(f.receiver, 1)...)
			time.Sleep(5 * time.Second)
		}
	}),
	"token expiry": on(0, "plain", nil, func(f *feed) {
		f.client.Close(background)
		f.use(3)
		f.publish(0, 1)
		f.complete(f.take(f.receiver, 1)...)
		ctx, cancel := context.WithTimeout(background, 15*time.Second)
		defer cancel()
		_, err := f.receiver.ReceiveMessages(ctx, 1, nil)
		var refused *azservicebus.Error
		check(errors.As(err, &refused) && refused.Code == azservicebus.CodeUnauthorizedAccess, "%v", err)
		f.client.Close(background)
		f.use(60)
		f.publish(1, 1)
		f.complete(f.take(f.receiver, 1)...)
	}),
	"a thousand subscriptions": func(options fields) {
		ids := strings.Split(call("subscribeMany", "base", options["base"], "count", 1000)["ids"], ",")
		client := dial(options, call("token", "path", topic+"/Subscriptions")["token"], "plain")
		defer client.Close(background)
		ctx, cancel := context.WithTimeout(background, 200*time.Second)
		defer cancel()
		faults := make(chan error, len(ids))
		for _, id := range ids {
			receiver, err := client.NewReceiverForSubscription(topic, id, nil)
			must(err)
			go func() {
				// It may come back without any, to be called again.
				got, err := receiver.ReceiveMessages(ctx, 1, nil)
				for err == nil && len(got) == 0 {
					got, err = receiver.ReceiveMessages(ctx, 1, nil)
				}
				if err == nil {
					err = receiver.CompleteMessage(ctx, got[0], nil)
				}
				faults <- err
			}()
		}
		for call("receivers").number("count") < 1000 {
			must(ctx.Err())
			time.Sleep(100 * time.Millisecond)
		}
		call("publish", "base", options["base"])
		for range ids {
			must(<-faults)
		}
	},
	"prefetch": on(0, "plain", nil, func(f *feed) {
		f.publish(0, 200)
		got := f.take(f.receiver, 200)
		inOrder(f, got, 0)
		f.complete(got...)
		f.until("backlog", 0)
	}),
	"ten receivers": on(0, "plain", nil, func(f *feed) {
		var lock sync.Mutex
		seen := []int{}
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		for n := 0; n < 10; n++ {
			receiver, err := f.client.NewReceiverForSubscription(topic, f.id, nil)
			must(err)
			go func() {
				for ctx.Err() == nil {
					got, err := receiver.ReceiveMessages(ctx, 5, nil)
					if err != nil {
						return
					}
					for _, message := range got {
						if receiver.CompleteMessage(ctx, message, nil) == nil {
							lock.Lock()
							seen = append(seen, f.offset(message))
							lock.Unlock()
						}
					}
				}
			}()
		}
		f.until("receivers", 10)
		f.publish(0, 200)
		f.until("backlog", 0)
		until("all of them", func() bool { lock.Lock(); defer lock.Unlock(); return len(seen) == 200 })
		sort.Ints(seen)
		check(seen[0] == 0 && seen[199] == 199, "not each once")
	}),
}

func bury(f *feed) {
	first := f.take(f.receiver, 1)[0]
	must(f.receiver.DeadLetterMessage(background, first, &azservicebus.DeadLetterOptions{Reason: text("broken"), ErrorDescription: text("very")}))
	f.until("dead", 1)
	f.until("backlog", 0)
}
