import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.BooleanSupplier;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** How a client program talks to the tests; see clients/protocol.py. */
final class Protocol {
    interface Scenario {
        void run(Map<String, String> options) throws Exception;
    }

    private static final BufferedReader INPUT =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private Protocol() {}

    private static String[] nextLine() throws Exception {
        String line = INPUT.readLine();
        if (line == null) System.exit(0);
        return line.split("\t");
    }

    private static Map<String, String> read(String[] words, int from) {
        Map<String, String> found = new LinkedHashMap<>();
        for (int at = from; at < words.length; at++) {
            int middle = words[at].indexOf('=');
            found.put(words[at].substring(0, middle), words[at].substring(middle + 1));
        }
        return found;
    }

    /** Ask the operator of the service. */
    static Map<String, String> call(String command, Object... pairs) throws Exception {
        StringBuilder line = new StringBuilder("call\t" + command);
        for (int at = 0; at < pairs.length; at += 2) {
            line.append('\t').append(pairs[at]).append('=').append(pairs[at + 1]);
        }
        System.out.println(line);
        String[] answer = nextLine();
        if (!answer[0].equals("ok")) throw new IllegalStateException(String.join(" ", answer));
        return read(answer, 1);
    }

    static void serve(Map<String, Scenario> scenarios) throws Exception {
        for (;;) {
            String[] line = nextLine();
            try {
                scenarios.get(line[1]).run(read(line, 2));
                System.out.println("done\tpassed");
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("done\tfailed\t" + String.valueOf(error).replaceAll("\\s+", " "));
            }
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void until(String what, BooleanSupplier holds) throws Exception {
        long end = System.currentTimeMillis() + 20_000;
        while (!holds.getAsBoolean()) {
            check(System.currentTimeMillis() < end, "waited in vain for " + what);
            Thread.sleep(25);
        }
    }

    static void untilState(String id, String name, int wanted) throws Exception {
        long end = System.currentTimeMillis() + 20_000;
        while (Integer.parseInt(call("state", "id", id).get(name)) != wanted) {
            check(System.currentTimeMillis() < end, "waited in vain for " + name + " " + wanted);
            Thread.sleep(25);
        }
    }

    /** Trust a private authority, as a trust store does. */
    static SSLContext trust(String pem) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream in = new FileInputStream(pem)) {
            store.setCertificateEntry(
                "ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trusting =
            TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusting.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trusting.getTrustManagers(), null);
        return context;
    }
}
