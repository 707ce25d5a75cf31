import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.core.amqp.AmqpTransportType;
import com.azure.core.credential.AccessToken;
import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import com.azure.messaging.servicebus.ServiceBusClientBuilder.ServiceBusReceiverClientBuilder;
import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.ServiceBusMessageBatch;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverAsyncClient;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.ServiceBusRuleManagerClient;
import com.azure.messaging.servicebus.ServiceBusSenderClient;
import com.azure.messaging.servicebus.administration.models.CreateRuleOptions;
import com.azure.messaging.servicebus.administration.models.RuleProperties;
import com.azure.messaging.servicebus.administration.models.SqlRuleFilter;
import com.azure.messaging.servicebus.models.AbandonOptions;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import com.azure.messaging.servicebus.models.ServiceBusReceiveMode;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import reactor.core.publisher.Mono;

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
        final String filter;
        final int base;
        ServiceBusClientBuilder builder;
        ServiceBusReceiverClient receiver;
        volatile AccessToken token;

        Feed(Map<String, String> options, int count, String mode, ServiceBusReceiveMode how, int prefetch)
                throws Exception {
            this.options = options;
            base = Integer.parseInt(options.get("base"));
            Map<String, String> made = Protocol.call("subscribe", "base", base);
            id = made.get("id");
            address = made.get("address");
            filter = made.get("filter");
            builder = builder(options, Protocol.call("token", "path", address).get("token"), mode);
            receiver = receiving(how).prefetchCount(prefetch).buildClient();
            if (count > 0) publish(0, count);
        }

        ServiceBusReceiverClientBuilder receiving(ServiceBusReceiveMode how) {
            return builder.receiver().topicName(TOPIC).subscriptionName(id).receiveMode(how)
                .disableAutoComplete().maxAutoLockRenewDuration(Duration.ZERO);
        }

        /** Have a new token ready, for the client to ask for when it needs one. */
        void issue(int seconds) throws Exception {
            Map<String, String> made = Protocol.call("token", "path", address, "seconds", seconds);
            Instant end = Instant.ofEpochSecond(Long.parseLong(made.get("expires")));
            token = new AccessToken(made.get("token"), end.atOffset(ZoneOffset.UTC));
        }

        /** Connect again, with tokens that the client asks for. */
        void useTokens(int seconds) throws Exception {
            SSLContext.setDefault(Protocol.trust(options.get("ca")));
            receiver.close();
            issue(seconds);
            builder = new ServiceBusClientBuilder().retryOptions(patience().setMaxRetries(1))
                .credential("localhost", request -> Mono.fromSupplier(() -> token))
                .customEndpointAddress("https://localhost:" + options.get("amqps"));
            receiver = receiving(ServiceBusReceiveMode.PEEK_LOCK).buildClient();
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

    private static AmqpRetryOptions patience() {
        return new AmqpRetryOptions()
            .setDelay(Duration.ofMillis(200)).setTryTimeout(Duration.ofSeconds(20));
    }

    private static ServiceBusClientBuilder builder(Map<String, String> options, String token, String mode) {
        ServiceBusClientBuilder made = new ServiceBusClientBuilder().retryOptions(patience());
        if (mode.startsWith("websocket")) made.transportType(AmqpTransportType.AMQP_WEB_SOCKETS);
        if (mode.equals("plain") || mode.equals("websocket-plain")) {
            String port = options.get(mode.equals("plain") ? "amqp" : "http");
            return made.connectionString("Endpoint=sb://localhost:" + port
                + ";SharedAccessSignature=" + token + ";UseDevelopmentEmulator=true");
        }
        return made.connectionString("Endpoint=sb://localhost;SharedAccessSignature=" + token)
            .customEndpointAddress("https://localhost:" + options.get(mode.equals("tls") ? "amqps" : "https"));
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

    private static Protocol.Scenario over(String mode) {
        return options -> {
            SSLContext.setDefault(Protocol.trust(options.get("ca")));
            on(2, mode, ServiceBusReceiveMode.PEEK_LOCK, 0, feed -> {
                feed.consume(0, 2);
                feed.until("backlog", 0);
            }).run(options);
        };
    }

    private static void renewTokens(Feed feed) throws Exception {
        // Time enough for a first connection, which takes its while.
        feed.useTokens(15);
        long end = System.currentTimeMillis() + 20_000;
        for (int at = 0; System.currentTimeMillis() < end; at++) {
            feed.issue(15);
            feed.publish(at, 1);
            feed.consume(at, 1);
            Thread.sleep(1000);
        }
        feed.until("backlog", 0);
    }

    private static void outliveToken(Feed feed) throws Exception {
        // Time enough for a first connection, which takes its while.
        feed.useTokens(8);
        feed.publish(0, 1);
        feed.consume(0, 1);
        String told = "";
        long end = System.currentTimeMillis() + 25_000;
        while (!told.contains("expired") && System.currentTimeMillis() < end) {
            try {
                feed.receiver.receiveMessages(1, Duration.ofSeconds(2)).forEach(message -> {});
            } catch (RuntimeException error) {
                told = reasonsOf(error);
            }
        }
        Protocol.check(told.contains("expired"), "told: " + told);
        feed.useTokens(60);
        feed.publish(1, 1);
        feed.consume(1, 1);
    }

    private static String reasonsOf(Throwable error) {
        StringBuilder told = new StringBuilder();
        for (Throwable each = error; each != null; each = each.getCause()) told.append(each).append(' ');
        return told.toString();
    }

    private static void listRules(Feed feed) {
        try (ServiceBusRuleManagerClient rules =
                feed.builder.ruleManager().topicName(TOPIC).subscriptionName(feed.id).buildClient()) {
            List<RuleProperties> found = rules.listRules().stream().toList();
            Protocol.check(found.size() == 1 && found.get(0).getName().equals("$Default"), "names");
            SqlRuleFilter filter = (SqlRuleFilter) found.get(0).getFilter();
            Protocol.check(filter.getSqlExpression().equals(feed.filter), filter.getSqlExpression());
            Protocol.check(isRefused(() -> rules.createRule(
                "mine", new CreateRuleOptions(new SqlRuleFilter("value > 1")))), "a rule was added");
            Protocol.check(isRefused(() -> rules.deleteRule("$Default")), "the rule was removed");
        }
    }

    private static boolean isRefused(Runnable step) {
        try {
            step.run();
        } catch (RuntimeException error) {
            return true;
        }
        return false;
    }

    private static void receiveByTen(Feed feed) throws Exception {
        List<ServiceBusReceiverClient> receivers = new ArrayList<>();
        for (int number = 0; number < 10; number++) {
            receivers.add(feed.receiving(ServiceBusReceiveMode.PEEK_LOCK).buildClient());
        }
        feed.publish(0, 200);
        Set<Integer> seen = new HashSet<>();
        for (ServiceBusReceiverClient receiver : receivers) {
            for (ServiceBusReceivedMessage message : feed.take(receiver, 20)) {
                Protocol.check(seen.add(feed.offset(message)), "twice");
                receiver.complete(message);
            }
        }
        feed.until("backlog", 0);
        feed.until("receivers", 10);
        receivers.forEach(ServiceBusReceiverClient::close);
    }

    private static void receiveFromThousand(Map<String, String> options) throws Exception {
        String ids = Protocol.call("subscribeMany", "base", options.get("base"), "count", 1000).get("ids");
        String token = Protocol.call("token", "path", TOPIC + "/Subscriptions").get("token");
        ServiceBusClientBuilder builder = builder(options, token, "plain");
        AtomicInteger seen = new AtomicInteger();
        List<ServiceBusReceiverAsyncClient> receivers = new ArrayList<>();
        for (String id : ids.split(",")) {
            ServiceBusReceiverAsyncClient receiver = builder.receiver().topicName(TOPIC).subscriptionName(id)
                .receiveMode(ServiceBusReceiveMode.RECEIVE_AND_DELETE).buildAsyncClient();
            receiver.receiveMessages().subscribe(message -> seen.incrementAndGet());
            receivers.add(receiver);
        }
        long end = System.currentTimeMillis() + 200_000;
        while (Integer.parseInt(Protocol.call("receivers").get("count")) < 1000) {
            Protocol.check(System.currentTimeMillis() < end, "not all are attached");
            Thread.sleep(200);
        }
        Protocol.call("publish", "base", options.get("base"));
        Protocol.until("a message on each", () -> seen.get() == 1000);
        receivers.forEach(ServiceBusReceiverAsyncClient::close);
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
        all.put("properties", on(1, feed -> {
            ServiceBusReceivedMessage first = feed.take(feed.receiver, 1).get(0);
            feed.receiver.abandon(first, new AbandonOptions().setPropertiesToModify(Map.of("tries", 1)));
            ServiceBusReceivedMessage again = feed.take(feed.receiver, 1).get(0);
            Object tries = again.getApplicationProperties().get("tries");
            Protocol.check(Integer.valueOf(1).equals(tries), "tries: " + tries);
            feed.receiver.complete(again);
        }));
        all.put("rules", on(0, ServiceBusClients::listRules));
        all.put("token renewal", on(0, ServiceBusClients::renewTokens));
        all.put("token expiry", on(0, ServiceBusClients::outliveToken));
        all.put("ten receivers", on(0, ServiceBusClients::receiveByTen));
        all.put("a thousand subscriptions", ServiceBusClients::receiveFromThousand);
        all.put("TLS", over("tls"));
        all.put("WebSocket", over("websocket"));
        all.put("WebSocket without TLS", over("websocket-plain"));
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
