import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import com.azure.messaging.servicebus.ServiceBusClientBuilder.ServiceBusReceiverClientBuilder;
import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.ServiceBusMessageBatch;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.ServiceBusSenderClient;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import com.azure.messaging.servicebus.models.ServiceBusReceiveMode;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.SSLContext;

/** azure-messaging-servicebus for Java, its synchronous clients. */
public final class ServiceBusClients {
    private interface Step {
        void run(Feed feed) throws Exception;
    }

    private static final String TOPIC = "variables";

    /** A new subscription, and a receiver on it. */
    private static final class Feed implements AutoCloseable {
        final Map<String, String> options;
        final String id;
        final String address;
        final int base;
        final ServiceBusClientBuilder builder;
        final ServiceBusReceiverClient receiver;

        Feed(Map<String, String> options, int count, String mode, ServiceBusReceiveMode how, int prefetch)
                throws Exception {
            this.options = options;
            base = Integer.parseInt(options.get("base"));
            Map<String, String> made = Protocol.call("subscribe", "base", base);
            id = made.get("id");
            address = made.get("address");
            builder = builder(options, Protocol.call("token", "path", address).get("token"), mode);
            receiver = receiving(how).prefetchCount(prefetch).buildClient();
            if (count > 0) publish(0, count);
        }

        ServiceBusReceiverClientBuilder receiving(ServiceBusReceiveMode how) {
            return builder.receiver().topicName(TOPIC).subscriptionName(id).receiveMode(how)
                .disableAutoComplete().maxAutoLockRenewDuration(Duration.ZERO);
        }

        void publish(int offset, int count) throws Exception {
            Protocol.call("publish", "base", base + offset, "count", count);
        }

        int offset(ServiceBusReceivedMessage message) {
            return ((Number) message.getApplicationProperties().get("value")).intValue() - base;
        }

        List<ServiceBusReceivedMessage> take(ServiceBusReceiverClient from, int count) {
            List<ServiceBusReceivedMessage> got = new ArrayList<>();
            long end = System.currentTimeMillis() + 25_000;
            while (got.size() < count && System.currentTimeMillis() < end) {
                from.receiveMessages(count - got.size(), Duration.ofSeconds(5)).forEach(got::add);
            }
            Protocol.check(got.size() == count, got.size() + " of " + count + " messages");
            return got;
        }

        void consume(int first, int count) {
            List<ServiceBusReceivedMessage> got = take(receiver, count);
            for (int at = 0; at < count; at++) {
                Protocol.check(offset(got.get(at)) == first + at, "out of order");
                receiver.complete(got.get(at));
            }
        }

        void until(String name, int wanted) throws Exception {
            Protocol.untilState(id, name, wanted);
        }

        ServiceBusMessage message(int offset, String body) {
            ServiceBusMessage made = new ServiceBusMessage(body);
            made.getApplicationProperties().put("value", (long) base + offset);
            return made;
        }

        ServiceBusSenderClient sender() throws Exception {
            String token = Protocol.call("publisher").get("token");
            return builder(options, token, "plain").sender().topicName(TOPIC).buildClient();
        }

        @Override
        public void close() {
            receiver.close();
        }
    }

    private static ServiceBusClientBuilder builder(Map<String, String> options, String token, String mode) {
        AmqpRetryOptions retry = new AmqpRetryOptions()
            .setDelay(Duration.ofMillis(200)).setTryTimeout(Duration.ofSeconds(20));
        ServiceBusClientBuilder made = new ServiceBusClientBuilder().retryOptions(retry);
        if (mode.equals("plain")) {
            return made.connectionString("Endpoint=sb://localhost:" + options.get("amqp")
                + ";SharedAccessSignature=" + token + ";UseDevelopmentEmulator=true");
        }
        return made.connectionString("Endpoint=sb://localhost;SharedAccessSignature=" + token)
            .customEndpointAddress("https://localhost:" + options.get("amqps"));
    }

    private static Protocol.Scenario on(int count, Step step) {
        return on(count, "plain", ServiceBusReceiveMode.PEEK_LOCK, 0, step);
    }

    private static Protocol.Scenario on(
            int count, String mode, ServiceBusReceiveMode how, int prefetch, Step step) {
        return options -> {
            try (Feed feed = new Feed(options, count, mode, how, prefetch)) {
                step.run(feed);
            }
        };
    }

    private interface Disturbance {
        void run(Feed feed) throws Exception;
    }

    private static Protocol.Scenario disturbed(Disturbance disturb) {
        return on(3, feed -> {
            feed.consume(0, 3);
            feed.until("backlog", 0);
            disturb.run(feed);
            feed.publish(3, 3);
            feed.consume(3, 3);
            feed.until("backlog", 0);
        });
    }

    private static void bury(Feed feed) throws Exception {
        DeadLetterOptions why = new DeadLetterOptions()
            .setDeadLetterReason("broken").setDeadLetterErrorDescription("very");
        feed.receiver.deadLetter(feed.take(feed.receiver, 1).get(0), why);
        feed.until("dead", 1);
        feed.until("backlog", 0);
    }

    private static void bring(Feed feed, List<Integer> order) {
        List<ServiceBusReceivedMessage> got = feed.take(feed.receiver, order.size());
        for (int at = 0; at < order.size(); at++) {
            Protocol.check(feed.offset(got.get(at)) == order.get(at), "out of order");
            feed.receiver.complete(got.get(at));
        }
    }

    private static Map<String, Protocol.Scenario> scenarios() {
        Map<String, Protocol.Scenario> all = new LinkedHashMap<>();
        all.put("complete", on(3, feed -> {
            feed.consume(0, 3);
            feed.until("backlog", 0);
        }));
        all.put("abandon", on(1, feed -> {
            ServiceBusReceivedMessage first = feed.take(feed.receiver, 1).get(0);
            feed.receiver.abandon(first);
            ServiceBusReceivedMessage again = feed.take(feed.receiver, 1).get(0);
            Protocol.check(again.getDeliveryCount() == first.getDeliveryCount() + 1, "delivery count");
            feed.receiver.complete(again);
        }));
        all.put("dead-letter", on(1, ServiceBusClients::bury));
        all.put("dead-letter queue", on(1, feed -> {
            bury(feed);
            try (ServiceBusReceiverClient dead = feed.receiving(ServiceBusReceiveMode.PEEK_LOCK)
                    .subQueue(SubQueue.DEAD_LETTER_QUEUE).buildClient()) {
                ServiceBusReceivedMessage letter = feed.take(dead, 1).get(0);
                Protocol.check("broken".equals(letter.getDeadLetterReason()), "reason");
                dead.renewMessageLock(letter);
                dead.complete(letter);
            }
            feed.until("dead", 0);
        }));
        all.put("defer", on(1, feed -> {
            ServiceBusReceivedMessage first = feed.take(feed.receiver, 1).get(0);
            feed.receiver.defer(first);
            feed.until("deferred", 1);
            ServiceBusReceivedMessage again =
                feed.receiver.receiveDeferredMessage(first.getSequenceNumber());
            Protocol.check(feed.offset(again) == 0, "another message");
            feed.receiver.renewMessageLock(again);
            feed.receiver.complete(again);
            feed.until("backlog", 0);
        }));
        all.put("renew", on(1, feed -> {
            ServiceBusReceivedMessage first = feed.take(feed.receiver, 1).get(0);
            Thread.sleep(1100);
            OffsetDateTime end = feed.receiver.renewMessageLock(first);
            Protocol.check(end.isAfter(OffsetDateTime.now().plusSeconds(28)), "the lock ends " + end);
            feed.receiver.complete(first);
        }));
        all.put("receive and delete",
            on(3, "plain", ServiceBusReceiveMode.RECEIVE_AND_DELETE, 0, feed -> {
                feed.take(feed.receiver, 3);
                feed.until("backlog", 0);
            }));
        all.put("peek", on(5, feed -> {
            int at = 0;
            for (ServiceBusReceivedMessage message : feed.receiver.peekMessages(10)) {
                Protocol.check(feed.offset(message) == at++, "out of order");
            }
            Protocol.check(at == 5, at + " peeked");
            Protocol.check(feed.receiver.peekMessage() == null, "there is more");
        }));
        all.put("stream", on(0, feed -> {
            for (int start = 0; start < 20; start += 10) {
                feed.publish(start, 10);
                feed.consume(start, 10);
            }
            feed.until("backlog", 0);
        }));
        all.put("reconnect after a close", disturbed(feed -> Protocol.call("close")));
        all.put("reconnect after a restart", disturbed(feed -> Protocol.call("restart")));
        all.put("reconnect after a detach",
            disturbed(feed -> Protocol.call("detach", "address", feed.address)));
        all.put("send", on(0, feed -> {
            try (ServiceBusSenderClient sender = feed.sender()) {
                sender.sendMessage(feed.message(0, "{}").setMessageId("m1").setSubject("hello"));
            }
            ServiceBusReceivedMessage got = feed.take(feed.receiver, 1).get(0);
            Protocol.check(got.getMessageId().equals("m1") && got.getSubject().equals("hello"), "changed");
            feed.receiver.complete(got);
        }));
        all.put("send a batch", on(0, feed -> {
            List<Integer> order = new ArrayList<>();
            try (ServiceBusSenderClient sender = feed.sender()) {
                ServiceBusMessageBatch batch = sender.createMessageBatch();
                for (int offset = 0; offset < 50; offset++) {
                    Protocol.check(batch.tryAddMessage(feed.message(offset, "{}")), "full");
                    order.add(offset);
                }
                sender.sendMessages(batch);
            }
            bring(feed, order);
        }));
        all.put("send scheduled", on(0, feed -> {
            try (ServiceBusSenderClient sender = feed.sender()) {
                OffsetDateTime soon = OffsetDateTime.now().plusSeconds(2);
                sender.scheduleMessage(feed.message(0, "{}"), soon);
                sender.cancelScheduledMessage(sender.scheduleMessage(feed.message(1, "{}"), soon));
                sender.sendMessage(feed.message(2, "{}"));
            }
            bring(feed, List.of(2, 0));
        }));
        all.put("send 900 KB", on(0, feed -> {
            String body = "L".repeat(900_000);
            try (ServiceBusSenderClient sender = feed.sender()) {
                sender.sendMessage(feed.message(0, body));
            }
            ServiceBusReceivedMessage got = feed.take(feed.receiver, 1).get(0);
            Protocol.check(got.getBody().toString().equals(body), "it has changed");
            feed.receiver.complete(got);
        }));
        all.put("TLS", options -> {
            SSLContext.setDefault(Protocol.trust(options.get("ca")));
            on(2, "tls", ServiceBusReceiveMode.PEEK_LOCK, 0, feed -> feed.consume(0, 2)).run(options);
        });
        all.put("prefetch", on(0, "plain", ServiceBusReceiveMode.PEEK_LOCK, 50, feed -> {
            feed.publish(0, 200);
            feed.consume(0, 200);
            feed.until("backlog", 0);
        }));
        return all;
    }

    private ServiceBusClients() {}

    public static void main(String[] arguments) throws Exception {
        Protocol.serve(scenarios());
    }
}
