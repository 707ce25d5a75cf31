import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.qpid.jms.JmsConnectionFactory;

/** Qpid JMS, which knows nothing of the Service Bus: SASL PLAIN with the token as the password. */
public final class JmsClients {
    private interface Step {
        void run(Feed feed) throws Exception;
    }

    /** Qpid JMS settles a message with this outcome when its property JMS_AMQP_ACK_TYPE says so. */
    private static final int REJECTED = 2;
    private static final int RELEASED = 3;
    private static final int MODIFIED_FAILED = 4;
    private static final int INDIVIDUAL = 101;

    private static final class Feed implements AutoCloseable {
        final Map<String, String> options;
        final String id;
        final String address;
        final int base;
        final Connection connection;
        final Session session;

        Feed(Map<String, String> options, int count, String mode) throws Exception {
            this.options = options;
            base = Integer.parseInt(options.get("base"));
            Map<String, String> made = Protocol.call("subscribe", "base", base);
            id = made.get("id");
            address = made.get("address");
            connection = connect(options, Protocol.call("token", "path", address).get("token"), mode);
            session = connection.createSession(false, INDIVIDUAL);
            if (count > 0) publish(0, count);
        }

        void publish(int offset, int count) throws Exception {
            Protocol.call("publish", "base", base + offset, "count", count);
        }

        MessageConsumer consumer(String below) throws Exception {
            return session.createConsumer(session.createQueue(address + below));
        }

        Message take(MessageConsumer from) throws Exception {
            Message message = from.receive(20_000);
            Protocol.check(message != null, "no message");
            return message;
        }

        int offset(Message message) throws Exception {
            return (int) (message.getLongProperty("value") - base);
        }

        void consume(MessageConsumer from, int first, int count) throws Exception {
            for (int at = 0; at < count; at++) {
                Message message = take(from);
                Protocol.check(offset(message) == first + at, "out of order");
                message.acknowledge();
            }
        }

        void settle(Message message, int outcome) throws Exception {
            message.setIntProperty("JMS_AMQP_ACK_TYPE", outcome);
            message.acknowledge();
        }

        void until(String name, int wanted) throws Exception {
            Protocol.untilState(id, name, wanted);
        }

        @Override
        public void close() throws Exception {
            connection.close();
        }
    }

    private static Connection connect(Map<String, String> options, String token, String mode)
            throws Exception {
        String plain = "failover:(amqp://localhost:" + options.get("amqp")
            + "?amqp.saslMechanisms=PLAIN)?failover.initialReconnectDelay=100&failover.reconnectDelay=200";
        String where = switch (mode) {
            case "tls" -> "amqps://localhost:" + options.get("amqps");
            case "websocket" -> "amqpwss://localhost:" + options.get("https") + "/$servicebus/websocket";
            default -> plain;
        };
        JmsConnectionFactory factory = new JmsConnectionFactory("any", token, where);
        if (!mode.equals("plain")) factory.setSslContext(Protocol.trust(options.get("ca")));
        Connection made = factory.createConnection();
        made.start();
        return made;
    }

    private static Protocol.Scenario on(int count, String mode, Step step) {
        return options -> {
            try (Feed feed = new Feed(options, count, mode)) {
                step.run(feed);
            }
        };
    }

    private static Protocol.Scenario disturbed(String command) {
        return on(3, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            feed.consume(consumer, 0, 3);
            feed.until("backlog", 0);
            Protocol.call(command);
            feed.publish(3, 3);
            feed.consume(consumer, 3, 3);
            feed.until("backlog", 0);
        });
    }

    private static void bury(Feed feed) throws Exception {
        MessageConsumer consumer = feed.consumer("");
        feed.settle(feed.take(consumer), REJECTED);
        feed.until("dead", 1);
        feed.until("backlog", 0);
    }

    private static Protocol.Scenario sending(int count, String body, int... order) {
        return on(0, "plain", feed -> {
            String token = Protocol.call("publisher").get("token");
            try (Connection connection = connect(feed.options, token, "plain")) {
                Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
                Queue topic = session.createQueue("variables");
                MessageProducer producer = session.createProducer(topic);
                for (int offset = 0; offset < count; offset++) {
                    BytesMessage message = session.createBytesMessage();
                    message.writeBytes(body.getBytes());
                    message.setLongProperty("value", feed.base + offset);
                    producer.send(message);
                }
            }
            MessageConsumer consumer = feed.consumer("");
            for (int expected : order) {
                BytesMessage message = (BytesMessage) feed.take(consumer);
                Protocol.check(feed.offset(message) == expected, "out of order");
                Protocol.check(message.getBodyLength() == body.length(), "it has changed");
                message.acknowledge();
            }
            feed.until("backlog", 0);
        });
    }

    private static Map<String, Protocol.Scenario> scenarios() {
        Map<String, Protocol.Scenario> all = new LinkedHashMap<>();
        Step two = feed -> {
            feed.consume(feed.consumer(""), 0, 2);
            feed.until("backlog", 0);
        };
        all.put("complete", on(3, "plain", feed -> {
            feed.consume(feed.consumer(""), 0, 3);
            feed.until("backlog", 0);
        }));
        all.put("abandon", on(1, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            feed.settle(feed.take(consumer), MODIFIED_FAILED);
            Message again = feed.take(consumer);
            Protocol.check(again.getIntProperty("JMSXDeliveryCount") == 2, "delivery count");
            feed.settle(again, RELEASED);
            feed.take(consumer).acknowledge();
            feed.until("backlog", 0);
        }));
        all.put("dead-letter", on(1, "plain", JmsClients::bury));
        all.put("dead-letter queue", on(1, "plain", feed -> {
            bury(feed);
            Message letter = feed.take(feed.consumer("/$DeadLetterQueue"));
            Protocol.check(letter.getStringProperty("DeadLetterReason") != null, "no reason");
            letter.acknowledge();
            feed.until("dead", 0);
        }));
        all.put("stream", on(0, "plain", feed -> {
            MessageConsumer consumer = feed.consumer("");
            for (int start = 0; start < 20; start += 10) {
                feed.publish(start, 10);
                feed.consume(consumer, start, 10);
            }
            feed.until("backlog", 0);
        }));
        all.put("reconnect after a close", disturbed("close"));
        all.put("reconnect after a restart", disturbed("restart"));
        all.put("send", sending(1, "{}", 0));
        all.put("send 900 KB", sending(1, "L".repeat(900_000), 0));
        all.put("TLS", on(2, "tls", two));
        all.put("WebSocket", on(2, "websocket", two));
        all.put("prefetch", on(0, "plain", feed -> {
            feed.publish(0, 200);
            feed.consume(feed.consumer(""), 0, 200);
            feed.until("backlog", 0);
        }));
        return all;
    }

    private JmsClients() {}

    public static void main(String[] arguments) throws Exception {
        Protocol.serve(scenarios());
    }
}
