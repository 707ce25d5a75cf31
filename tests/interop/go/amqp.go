// go-amqp, which knows nothing of the Service Bus: SASL PLAIN with the token as the password.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
)

type plainFeed struct {
	options fields
	base    int
	id      string
	address string
	filter  string
	conn    *amqp.Conn
	session *amqp.Session
}

func connect(options fields, token, mode string) (*amqp.Conn, *amqp.Session) {
	where := "amqp://localhost:" + options["amqp"]
	given := &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("any", token)}
	if mode == "tls" {
		where, given.TLSConfig = "amqps://localhost:"+options["amqps"], trust(options)
	}
	if token == "" {
		given.SASLType = amqp.SASLTypeAnonymous()
	}
	conn, err := establish(options, where, mode, given)
	must(err)
	session, err := conn.NewSession(background, nil)
	must(err)
	return conn, session
}

func establish(options fields, where, mode string, given *amqp.ConnOptions) (*amqp.Conn, error) {
	if mode == "plain" || mode == "tls" {
		return amqp.Dial(background, where, given)
	}
	given.HostName = "localhost"
	socket, err := webSocket(background, options, mode)
	must(err)
	return amqp.NewConn(background, socket, given)
}

func with(count int, mode string, scenario func(*plainFeed)) func(fields) {
	return func(options fields) {
		made := call("subscribe", "base", options["base"])
		f := &plainFeed{options: options, base: options.number("base"), id: made["id"], address: made["address"], filter: made["filter"]}
		f.reconnect(mode)
		defer func() { f.conn.Close() }()
		if count > 0 {
			f.publish(0, count)
		}
		scenario(f)
	}
}

func (f *plainFeed) reconnect(mode string) {
	f.conn, f.session = connect(f.options, call("token", "path", f.address)["token"], mode)
}

func (f *plainFeed) publish(offset, count int) {
	call("publish", "base", f.base+offset, "count", count)
}

func (f *plainFeed) until(name string, wanted int) {
	until(fmt.Sprintf("%s %d", name, wanted), func() bool { return call("state", "id", f.id).number(name) == wanted })
}

func (f *plainFeed) receiver(below string, given *amqp.ReceiverOptions) *amqp.Receiver {
	made, err := f.session.NewReceiver(background, f.address+below, given)
	must(err)
	return made
}

func second(credit int32) *amqp.ReceiverOptions {
	return &amqp.ReceiverOptions{Credit: credit, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()}
}

func (f *plainFeed) take(receiver *amqp.Receiver, count int) []*amqp.Message {
	got := []*amqp.Message{}
	ctx, cancel := context.WithTimeout(background, 15*time.Second)
	defer cancel()
	for len(got) < count {
		message, err := receiver.Receive(ctx, nil)
		must(err)
		got = append(got, message)
	}
	return got
}

func (f *plainFeed) offset(message *amqp.Message) int {
	return int(message.ApplicationProperties["value"].(int64)) - f.base
}

func (f *plainFeed) consume(receiver *amqp.Receiver, first, count int) {
	// One by one: credit comes back with each outcome.
	for at := 0; at < count; at++ {
		message := f.take(receiver, 1)[0]
		check(f.offset(message) == first+at, "%d is at %d", f.offset(message), at)
		must(receiver.AcceptMessage(background, message))
	}
}

func (f *plainFeed) sender() (*amqp.Conn, *amqp.Sender) {
	conn, session := connect(f.options, call("publisher")["token"], "plain")
	made, err := session.NewSender(background, topic, nil)
	must(err)
	return conn, made
}

func (f *plainFeed) message(offset int, body string) *amqp.Message {
	made := amqp.NewMessage([]byte(body))
	made.ApplicationProperties = map[string]any{"value": int64(f.base + offset)}
	return made
}

func again(f *plainFeed, disturb func()) {
	receiver := f.receiver("", second(10))
	f.consume(receiver, 0, 3)
	f.until("backlog", 0)
	disturb()
	ctx, cancel := context.WithTimeout(background, 5*time.Second)
	defer cancel()
	_, err := receiver.Receive(ctx, nil)
	check(err != nil, "nothing was noticed")
	f.publish(3, 3)
}

// put puts a token by $cbs.
func (f *plainFeed) put(seconds int) {
	token := call("token", "path", f.address, "seconds", seconds)["token"]
	reply := f.ask("$cbs", map[string]any{
		"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": "amqp://localhost/" + f.address,
	}, token)
	check(reply.ApplicationProperties["status-code"] == int32(200), "%v", reply.ApplicationProperties)
}

func withTokens(scenario func(*plainFeed)) func(fields) {
	return with(0, "plain", func(f *plainFeed) {
		f.conn.Close()
		f.conn, f.session = connect(f.options, "", "plain")
		scenario(f)
	})
}

func (f *plainFeed) request(operation string, body map[string]any) *amqp.Message {
	return f.ask(f.address+"/$management", map[string]any{"operation": "com.microsoft:" + operation}, body)
}

// ask asks a node that answers.
func (f *plainFeed) ask(node string, properties map[string]any, body any) *amqp.Message {
	replies, err := f.session.NewReceiver(background, node, &amqp.ReceiverOptions{TargetAddress: "replies"})
	must(err)
	out, err := f.session.NewSender(background, node, nil)
	must(err)
	must(out.Send(background, &amqp.Message{
		Properties:            &amqp.MessageProperties{MessageID: "1", ReplyTo: text("replies")},
		ApplicationProperties: properties,
		Value:                 body,
	}, nil))
	reply := f.take(replies, 1)[0]
	check(reply.Properties.CorrelationID == "1", "correlation")
	must(replies.Close(background))
	must(out.Close(background))
	return reply
}

var amqpScenarios = map[string]func(fields){
	"complete": with(3, "plain", func(f *plainFeed) {
		f.consume(f.receiver("", second(10)), 0, 3)
		f.until("backlog", 0)
	}),
	"abandon": with(1, "plain", func(f *plainFeed) {
		receiver := f.receiver("", second(1))
		first := f.take(receiver, 1)[0]
		must(receiver.ModifyMessage(background, first, &amqp.ModifyMessageOptions{DeliveryFailed: true}))
		second := f.take(receiver, 1)[0]
		check(second.Header.DeliveryCount == 1, "count %d", second.Header.DeliveryCount)
		must(receiver.ReleaseMessage(background, second))
		third := f.take(receiver, 1)[0]
		check(third.Header.DeliveryCount == 1, "count %d", third.Header.DeliveryCount)
		must(receiver.AcceptMessage(background, third))
		f.until("backlog", 0)
	}),
	"properties": with(1, "plain", func(f *plainFeed) {
		receiver := f.receiver("", second(1))
		must(receiver.ModifyMessage(background, f.take(receiver, 1)[0], &amqp.ModifyMessageOptions{
			Annotations: amqp.Annotations{"tries": int32(1)},
		}))
		again := f.take(receiver, 1)[0]
		check(again.ApplicationProperties["tries"] == int32(1), "%v", again.ApplicationProperties)
		must(receiver.AcceptMessage(background, again))
	}),
	"rules": with(0, "plain", func(f *plainFeed) {
		reply := f.request("enumerate-rules", map[string]any{"top": int32(100), "skip": int32(0)})
		check(reply.ApplicationProperties["statusCode"] == int32(200), "%v", reply.ApplicationProperties)
		shown := reply.Value.(map[string]any)["rules"].([]any)
		check(len(shown) == 1, "%d rules", len(shown))
		// Described values have a type that is the client's own; their text shows what is in them.
		rule := fmt.Sprintf("%v", shown[0])
		check(strings.Contains(rule, f.filter) && strings.Contains(rule, "$Default"), "%s", rule)
		reply = f.request("add-rule", map[string]any{"rule-name": "mine"})
		check(reply.ApplicationProperties["statusCode"] == int32(501), "%v", reply.ApplicationProperties)
	}),
	"dead-letter": with(1, "plain", func(f *plainFeed) { f.bury() }),
	"dead-letter queue": with(1, "plain", func(f *plainFeed) {
		f.bury()
		dead := f.receiver("/$DeadLetterQueue", second(1))
		letter := f.take(dead, 1)[0]
		check(letter.ApplicationProperties["DeadLetterReason"] == "broken", "reason")
		must(dead.AcceptMessage(background, letter))
		f.until("dead", 0)
	}),
	"defer": with(1, "plain", func(f *plainFeed) {
		receiver := f.receiver("", second(1))
		first := f.take(receiver, 1)[0]
		must(receiver.ModifyMessage(background, first, &amqp.ModifyMessageOptions{DeliveryFailed: true, UndeliverableHere: true}))
		f.until("deferred", 1)
		number := first.Annotations["x-opt-sequence-number"].(int64)
		reply := f.request("receive-by-sequence-number", map[string]any{
			"sequence-numbers": []int64{number}, "receiver-settle-mode": uint32(1),
		})
		check(reply.ApplicationProperties["statusCode"] == int32(200), "%v", reply.ApplicationProperties)
		entry := reply.Value.(map[string]any)["messages"].([]any)[0].(map[string]any)
		var inner amqp.Message
		must(inner.UnmarshalBinary(entry["message"].([]byte)))
		check(f.offset(&inner) == 0, "another message")
		reply = f.request("update-disposition", map[string]any{
			"disposition-status": "completed", "lock-tokens": []amqp.UUID{entry["lock-token"].(amqp.UUID)},
		})
		check(reply.ApplicationProperties["statusCode"] == int32(200), "%v", reply.ApplicationProperties)
		f.until("backlog", 0)
	}),
	"renew": with(1, "plain", func(f *plainFeed) {
		receiver := f.receiver("", second(1))
		first := f.take(receiver, 1)[0]
		var token amqp.UUID
		tag := first.DeliveryTag
		copy(token[:], []byte{tag[3], tag[2], tag[1], tag[0], tag[5], tag[4], tag[7], tag[6]})
		copy(token[8:], tag[8:])
		reply := f.request("renew-lock", map[string]any{"lock-tokens": []amqp.UUID{token}})
		check(reply.ApplicationProperties["statusCode"] == int32(200), "%v", reply.ApplicationProperties)
		must(receiver.AcceptMessage(background, first))
	}),
	"receive and delete": with(3, "plain", func(f *plainFeed) {
		receiver := f.receiver("", &amqp.ReceiverOptions{Credit: 10, RequestedSenderSettleMode: amqp.SenderSettleModeSettled.Ptr()})
		f.take(receiver, 3)
		f.until("backlog", 0)
	}),
	"peek": with(5, "plain", func(f *plainFeed) {
		reply := f.request("peek-message", map[string]any{"from-sequence-number": int64(0), "message-count": int32(10)})
		found := reply.Value.(map[string]any)["messages"].([]any)
		check(len(found) == 5, "%d peeked", len(found))
	}),
	"stream": with(0, "plain", func(f *plainFeed) {
		receiver := f.receiver("", second(30))
		for _, start := range []int{0, 10} {
			f.publish(start, 10)
			f.consume(receiver, start, 10)
		}
		f.until("backlog", 0)
	}),
	"reconnect after a close": with(3, "plain", func(f *plainFeed) {
		again(f, func() { call("close") })
		f.reconnect("plain")
		f.consume(f.receiver("", second(10)), 3, 3)
	}),
	"reconnect after a restart": with(3, "plain", func(f *plainFeed) {
		again(f, func() { call("restart") })
		f.reconnect("plain")
		f.consume(f.receiver("", second(10)), 3, 3)
	}),
	"reconnect after a detach": with(3, "plain", func(f *plainFeed) {
		again(f, func() { call("detach", "address", f.address) })
		f.consume(f.receiver("", second(10)), 3, 3)
	}),
	"send": with(0, "plain", func(f *plainFeed) {
		conn, out := f.sender()
		defer conn.Close()
		must(out.Send(background, f.message(0, "{}"), nil))
		f.consume(f.receiver("", second(1)), 0, 1)
	}),
	"send a batch": with(0, "plain", func(f *plainFeed) {
		conn, out := f.sender()
		defer conn.Close()
		envelope := &amqp.Message{Format: 0x80013700}
		for offset := 0; offset < 50; offset++ {
			encoded, err := f.message(offset, "{}").MarshalBinary()
			must(err)
			envelope.Data = append(envelope.Data, encoded)
		}
		must(out.Send(background, envelope, nil))
		f.consume(f.receiver("", second(50)), 0, 50)
	}),
	"send scheduled": with(0, "plain", func(f *plainFeed) {
		conn, out := f.sender()
		defer conn.Close()
		later := f.message(0, "{}")
		later.Annotations = amqp.Annotations{"x-opt-scheduled-enqueue-time": time.Now().Add(2 * time.Second)}
		must(out.Send(background, later, nil))
		must(out.Send(background, f.message(1, "{}"), nil))
		got := f.take(f.receiver("", second(5)), 2)
		check(f.offset(got[0]) == 1 && f.offset(got[1]) == 0, "order")
	}),
	"send 900 KB": with(0, "plain", func(f *plainFeed) {
		conn, out := f.sender()
		defer conn.Close()
		body := strings.Repeat("L", 900_000)
		must(out.Send(background, f.message(0, body), nil))
		receiver := f.receiver("", second(1))
		got := f.take(receiver, 1)[0]
		check(string(got.GetData()) == body, "it has changed")
		must(receiver.AcceptMessage(background, got))
	}),
	"TLS":                   with(2, "tls", twoMessages),
	"WebSocket":             with(2, "websocket", twoMessages),
	"WebSocket without TLS": with(2, "websocket-plain", twoMessages),
	"token renewal": withTokens(func(f *plainFeed) {
		f.put(3)
		receiver := f.receiver("", second(10))
		for n := 0; n < 6; n++ {
			f.publish(n, 1)
			f.consume(receiver, n, 1)
			time.Sleep(time.Second)
			f.put(3)
		}
	}),
	"token expiry": withTokens(func(f *plainFeed) {
		f.put(2)
		receiver := f.receiver("", second(10))
		f.publish(0, 1)
		f.consume(receiver, 0, 1)
		ctx, cancel := context.WithTimeout(background, 10*time.Second)
		defer cancel()
		_, err := receiver.Receive(ctx, nil)
		var detached *amqp.LinkError
		check(errors.As(err, &detached) && detached.RemoteErr.Condition == amqp.ErrCondUnauthorizedAccess, "%v", err)
		f.put(60)
		f.publish(1, 1)
		f.consume(f.receiver("", second(10)), 1, 1)
	}),
	"a thousand subscriptions": func(options fields) {
		ids := strings.Split(call("subscribeMany", "base", options["base"], "count", 1000)["ids"], ",")
		conn, session := connect(options, call("token", "path", topic+"/Subscriptions")["token"], "plain")
		defer conn.Close()
		receivers := []*amqp.Receiver{}
		for _, id := range ids {
			receiver, err := session.NewReceiver(background, topic+"/Subscriptions/"+id, second(1))
			must(err)
			receivers = append(receivers, receiver)
		}
		call("publish", "base", options["base"])
		ctx, cancel := context.WithTimeout(background, 200*time.Second)
		defer cancel()
		for _, receiver := range receivers {
			message, err := receiver.Receive(ctx, nil)
			must(err)
			must(receiver.AcceptMessage(ctx, message))
		}
	},
	"prefetch": with(0, "plain", func(f *plainFeed) {
		f.publish(0, 200)
		f.consume(f.receiver("", second(50)), 0, 200)
		f.until("backlog", 0)
	}),
	"ten receivers": with(0, "plain", func(f *plainFeed) {
		receivers := []*amqp.Receiver{}
		for n := 0; n < 10; n++ {
			receivers = append(receivers, f.receiver("", second(20)))
		}
		f.publish(0, 200)
		seen := map[int]bool{}
		for _, receiver := range receivers {
			for _, message := range f.take(receiver, 20) {
				seen[f.offset(message)] = true
				must(receiver.AcceptMessage(background, message))
			}
		}
		check(len(seen) == 200, "%d of 200", len(seen))
		f.until("backlog", 0)
	}),
}

func twoMessages(f *plainFeed) {
	f.consume(f.receiver("", second(10)), 0, 2)
	f.until("backlog", 0)
}

func (f *plainFeed) bury() {
	receiver := f.receiver("", second(1))
	first := f.take(receiver, 1)[0]
	must(receiver.RejectMessage(background, first, &amqp.Error{
		Condition: "com.microsoft:dead-letter",
		Info:      map[string]any{"DeadLetterReason": "broken", "DeadLetterErrorDescription": "very"},
	}))
	f.until("dead", 1)
	f.until("backlog", 0)
}
