/* load-recv: receive on many links over many connections and settle everything.
 *
 * Attaches to every address of its link table (or, with --listen, lets one sender connect to it),
 * writes "ready" to standard error, and counts until it has what it was told to expect. The
 * expectation comes from --count or, while it runs, as a number on a line of standard input; it
 * then listens on for a moment, so that a broker that delivers too much is seen too.
 * Prints one JSON object. */
#include <getopt.h>
#include <proton/delivery.h>
#include <proton/disposition.h>
#include <proton/link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cbs.h"
#include "clock.h"
#include "histogram.h"
#include "links.h"
#include "message.h"
#include "peer.h"
#include "text.h"

#define TICK_MS 100
#define EVENTS_MAX 256
#define LINGER_NS (300 * NS_PER_MS)
#define SENDERS_TRACKED 4 /* order is checked for the first few senders of a link */

enum settle { SETTLE_FIRST, SETTLE_SECOND, SETTLE_DELETE };

struct options {
    const char *server, *listen, *user, *token;
    struct link_table table;
    uint64_t count;
    double seconds, idle_s, skip_s;
    int credit;
    enum settle settle;
    bool cbs;
};

struct subscriber {
    uint64_t received;
    uint64_t last_seq[SENDERS_TRACKED];
    int owed; /* credit used up and not given back yet */
};

struct run {
    struct options options;
    struct peer *peers;
    uint32_t *polled; /* events each peer is registered for */
    struct subscriber *subscribers;
    unsigned peer_count, attached;
    int epoll, listener;
    uint64_t expected; /* 0: not known yet */
    uint64_t received, settled, bytes, foreign, disordered, unaccepted;
    int64_t ready_ns, first_ns, last_ns, complete_ns;
    struct histogram latency;
    uint64_t per_second[SECONDS_MAX];
    char error[600];
};

static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static const char usage[] =
    "usage: load-recv --server HOST:PORT (--address ADDRESS | --links FILE) [options]\n"
    "       load-recv --listen HOST:PORT [options]\n"
    "  --links FILE         CONNECTION<tab>ADDRESS<tab>TOKEN a line\n"
    "  --credit N           credit of each link (1000)\n"
    "  --settle MODE        first | second (both sides settle) | delete (second)\n"
    "  --count N            stop after N messages; or a number on standard input\n"
    "  --seconds S          stop after S seconds\n"
    "  --idle-seconds S     stop after S seconds without a message (10)\n"
    "  --skip-seconds S     leave the first S seconds out of the latency (0)\n"
    "  --user NAME          SASL PLAIN; password: token of the connection's first link,\n"
    "                       or --token-file FILE, or environment BENCH_TOKEN\n"
    "  --cbs                SASL ANONYMOUS, each link's token put to $cbs\n";

enum { O_SERVER = 1, O_LISTEN, O_ADDRESS, O_LINKS, O_CREDIT, O_SETTLE, O_COUNT, O_SECONDS, O_IDLE,
       O_SKIP, O_USER, O_TOKEN_FILE, O_CBS, O_HELP };

static const struct option long_options[] = {
    {"server", 1, 0, O_SERVER}, {"listen", 1, 0, O_LISTEN}, {"address", 1, 0, O_ADDRESS},
    {"links", 1, 0, O_LINKS}, {"credit", 1, 0, O_CREDIT}, {"settle", 1, 0, O_SETTLE},
    {"count", 1, 0, O_COUNT}, {"seconds", 1, 0, O_SECONDS}, {"idle-seconds", 1, 0, O_IDLE},
    {"skip-seconds", 1, 0, O_SKIP}, {"user", 1, 0, O_USER}, {"token-file", 1, 0, O_TOKEN_FILE},
    {"cbs", 0, 0, O_CBS}, {"help", 0, 0, O_HELP}, {0, 0, 0, 0}};

static enum settle settle_mode(const char *name)
{
    static const char *const names[] = {"first", "second", "delete"};
    for (int mode = 0; mode < 3; mode++)
        if (strcmp(name, names[mode]) == 0)
            return (enum settle)mode;
    fprintf(stderr, "--settle: expected first, second or delete, not '%s'\n", name);
    exit(2);
}

static void check_table(const char *what, const char *error)
{
    if (error == NULL)
        return;
    fprintf(stderr, "%s: %s\n", what, error);
    exit(2);
}

static void take_option(struct options *options, int option)
{
    switch (option) {
    case O_SERVER: options->server = optarg; break;
    case O_LISTEN: options->listen = optarg; break;
    case O_ADDRESS: check_table(optarg, link_table_single(&options->table, optarg)); break;
    case O_LINKS: check_table(optarg, link_table_read(&options->table, optarg)); break;
    case O_CREDIT: options->credit = (int)text_number("--credit", optarg, 1, 1e6); break;
    case O_SETTLE: options->settle = settle_mode(optarg); break;
    case O_COUNT: options->count = (uint64_t)text_number("--count", optarg, 1, 1e12); break;
    case O_SECONDS: options->seconds = text_number("--seconds", optarg, 0.01, SECONDS_MAX); break;
    case O_IDLE: options->idle_s = text_number("--idle-seconds", optarg, 0.01, 3600); break;
    case O_SKIP: options->skip_s = text_number("--skip-seconds", optarg, 0, 3600); break;
    case O_USER: options->user = optarg; break;
    case O_TOKEN_FILE: options->token = text_read_line(optarg); break;
    case O_CBS: options->cbs = true; break;
    case O_HELP: fputs(usage, stdout); exit(0);
    default: fputs(usage, stderr); exit(2);
    }
}

static struct options parse_options(int argc, char **argv)
{
    struct options options = {.credit = 1000, .settle = SETTLE_SECOND, .idle_s = 10,
                              .token = getenv("BENCH_TOKEN")};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(&options, option);
    bool connects = options.server != NULL && options.table.count > 0;
    if (connects == (options.listen != NULL) || optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
    if (options.listen != NULL)
        link_table_single(&options.table, "load-recv");
    return options;
}

/* ---- deliveries ---- */

static void check_order(struct run *run, struct subscriber *subscriber,
                        const struct message_stamp *stamp)
{
    if (stamp->sender >= SENDERS_TRACKED)
        return;
    uint64_t *last = &subscriber->last_seq[stamp->sender];
    if (stamp->seq <= *last)
        run->disordered++; /* came before, or should have come earlier */
    else
        *last = stamp->seq;
}

static void count_message(struct run *run, struct subscriber *subscriber, const char *bytes,
                          size_t size)
{
    struct message_stamp stamp;
    int64_t now = now_ns();
    if (run->received++ == 0)
        run->first_ns = now;
    run->last_ns = now;
    run->bytes += size;
    subscriber->received++;
    uint64_t second = (uint64_t)(now - run->first_ns) / NS_PER_S;
    if (second < SECONDS_MAX)
        run->per_second[second]++;
    if (!message_stamp_read(bytes, size, &stamp)) {
        run->foreign++;
        return;
    }
    check_order(run, subscriber, &stamp);
    if (now - run->first_ns >= (int64_t)(run->options.skip_s * 1e9))
        histogram_add(&run->latency, now - stamp.sent_ns);
}

static void settle_here(struct run *run, pn_delivery_t *delivery)
{
    pn_delivery_settle(delivery);
    run->settled++;
}

static void take_message(struct run *run, pn_delivery_t *delivery)
{
    static char bytes[MESSAGE_MAX_BYTES + 4096]; /* room for what the broker puts in front */
    pn_link_t *link = pn_delivery_link(delivery);
    struct subscriber *subscriber = pn_link_get_context(link);
    ssize_t size = pn_link_recv(link, bytes, sizeof bytes);
    pn_link_advance(link);
    count_message(run, subscriber, bytes, size > 0 ? (size_t)size : 0);
    if (!pn_delivery_settled(delivery))
        pn_delivery_update(delivery, PN_ACCEPTED);
    if (run->options.settle != SETTLE_SECOND || pn_delivery_settled(delivery))
        settle_here(run, delivery);
    if (++subscriber->owed * 2 >= run->options.credit) {
        pn_link_flow(link, subscriber->owed);
        subscriber->owed = 0;
    }
}

static void take_delivery(struct run *run, pn_delivery_t *delivery)
{
    if (pn_delivery_aborted(delivery)) {
        pn_delivery_settle(delivery);
    } else if (pn_delivery_readable(delivery)) {
        if (!pn_delivery_partial(delivery))
            take_message(run, delivery);
    } else if (pn_delivery_settled(delivery)) {
        if (pn_delivery_remote_state(delivery) != PN_ACCEPTED)
            run->unaccepted++;
        settle_here(run, delivery);
    }
}

/* ---- links ---- */

static void start_link(struct run *run, pn_link_t *link, size_t index)
{
    bool delete = run->options.settle == SETTLE_DELETE;
    pn_link_set_context(link, &run->subscribers[index]);
    pn_link_set_snd_settle_mode(link, delete ? PN_SND_SETTLED : PN_SND_UNSETTLED);
    pn_link_set_rcv_settle_mode(
        link, run->options.settle == SETTLE_SECOND ? PN_RCV_SECOND : PN_RCV_FIRST);
    pn_link_open(link);
    pn_link_flow(link, run->options.credit);
}

/* The far side opens: answer in kind (only with --listen). */
static void answer_open(struct run *run, pn_event_t *event)
{
    pn_link_t *link = pn_event_link(event);
    switch (pn_event_type(event)) {
    case PN_CONNECTION_REMOTE_OPEN:
        pn_connection_set_container(pn_event_connection(event), "load-recv");
        pn_connection_open(pn_event_connection(event));
        break;
    case PN_SESSION_REMOTE_OPEN:
        pn_session_set_incoming_capacity(pn_event_session(event), 64u << 20);
        pn_session_open(pn_event_session(event));
        break;
    default:
        pn_terminus_copy(pn_link_source(link), pn_link_remote_source(link));
        pn_terminus_copy(pn_link_target(link), pn_link_remote_target(link));
        start_link(run, link, 0);
    }
}

static void take_event(struct run *run, struct peer *peer, pn_event_t *event)
{
    pn_delivery_t *delivery;
    switch (pn_event_type(event)) {
    case PN_DELIVERY:
        delivery = pn_event_delivery(event);
        if (delivery != NULL && pn_link_get_context(pn_delivery_link(delivery)) != NULL)
            take_delivery(run, delivery);
        break;
    case PN_CONNECTION_REMOTE_OPEN:
    case PN_SESSION_REMOTE_OPEN:
        if (run->options.listen != NULL)
            answer_open(run, event);
        break;
    case PN_LINK_REMOTE_OPEN:
        if (run->options.listen != NULL)
            answer_open(run, event);
        else if (pn_link_get_context(pn_event_link(event)) != NULL)
            run->attached++;
        break;
    default:
        if (peer_failed(peer, event) && run->error[0] == '\0' && run->options.listen == NULL)
            snprintf(run->error, sizeof run->error, "%s", peer->error);
    }
}

static void take_events(struct run *run, struct peer *peer)
{
    pn_event_t *event;
    while ((event = pn_collector_peek(peer->collector)) != NULL) {
        take_event(run, peer, event);
        pn_collector_pop(peer->collector);
    }
}

/* ---- the loop ---- */

static void watch(struct run *run, struct peer *peer)
{
    unsigned index = (unsigned)(peer - run->peers);
    uint32_t wanted = EPOLLIN | (peer->blocked ? EPOLLOUT : 0u);
    struct epoll_event interest = {.events = wanted, .data.u32 = index};
    if (peer->closed && run->polled[index] != 0) {
        epoll_ctl(run->epoll, EPOLL_CTL_DEL, peer->fd, NULL);
        run->polled[index] = 0;
    } else if (!peer->closed && wanted != run->polled[index]) {
        epoll_ctl(run->epoll, run->polled[index] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, peer->fd,
                  &interest);
        run->polled[index] = wanted;
    }
}

static void serve_peer(struct run *run, struct peer *peer)
{
    peer_read(peer);
    take_events(run, peer);
    peer_flush(peer);
    if (peer->closed && peer->error[0] != '\0' && run->error[0] == '\0' &&
        run->options.listen == NULL)
        snprintf(run->error, sizeof run->error, "%s", peer->error);
    watch(run, peer);
}

#define STDIN_MARK UINT32_MAX
#define LISTEN_MARK (UINT32_MAX - 1)

static void read_expectation(struct run *run)
{
    char text[64];
    ssize_t got = read(STDIN_FILENO, text, sizeof text - 1);
    if (got <= 0) {
        epoll_ctl(run->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        return;
    }
    text[got] = '\0';
    run->expected = strtoull(text, NULL, 10);
    if (run->expected == 0)
        stopping = 1; /* nothing was sent, so there is nothing to wait for */
}

static void accept_sender(struct run *run)
{
    int fd = accept(run->listener, NULL, NULL);
    if (fd < 0 || run->peer_count == 1) {
        if (fd >= 0)
            close(fd);
        return;
    }
    if (peer_accept(&run->peers[0], fd)) {
        run->peer_count = 1;
        watch(run, &run->peers[0]);
    } else {
        close(fd);
    }
}

static void tick_all(struct run *run)
{
    for (unsigned i = 0; i < run->peer_count; i++) {
        struct peer *peer = &run->peers[i];
        if (peer->closed)
            continue;
        peer_tick(peer);
        peer_flush(peer);
        watch(run, peer);
    }
}

static void wait_once(struct run *run)
{
    static int64_t ticked_ns;
    struct epoll_event ready[EVENTS_MAX];
    int count = epoll_wait(run->epoll, ready, EVENTS_MAX, TICK_MS);
    for (int i = 0; i < count; i++) {
        uint32_t mark = ready[i].data.u32;
        if (mark == STDIN_MARK)
            read_expectation(run);
        else if (mark == LISTEN_MARK)
            accept_sender(run);
        else
            serve_peer(run, &run->peers[mark]);
    }
    if (now_ns() - ticked_ns >= TICK_MS * NS_PER_MS) {
        ticked_ns = now_ns();
        tick_all(run);
    }
}

static bool finished(struct run *run)
{
    const struct options *options = &run->options;
    int64_t now = now_ns(), quiet_since = run->received > 0 ? run->last_ns : run->ready_ns;
    if (stopping || run->error[0] != '\0' || (options->listen != NULL && run->peer_count == 1 &&
                                              run->peers[0].closed))
        return true;
    if (options->seconds > 0 && now - run->ready_ns >= (int64_t)(options->seconds * 1e9))
        return true;
    if (run->expected > 0 && run->received >= run->expected && run->settled >= run->received) {
        if (run->complete_ns == 0)
            run->complete_ns = now;
        return now - run->complete_ns >= LINGER_NS;
    }
    bool waits_for_sender = run->received == 0 && run->expected == 0;
    return !waits_for_sender && now - quiet_since >= (int64_t)(options->idle_s * 1e9);
}

/* ---- start and end ---- */

static void attach_links(struct run *run, struct peer *peer, size_t first, size_t count)
{
    char name[32];
    for (size_t i = first; i < first + count; i++) {
        snprintf(name, sizeof name, "load-recv-%zu", i);
        pn_link_t *link = pn_receiver(peer->session, name);
        pn_terminus_set_address(pn_link_source(link), run->options.table.lines[i].address);
        pn_terminus_set_address(pn_link_target(link), name);
        start_link(run, link, i);
    }
    peer_flush(peer);
    watch(run, peer);
}

static bool connect_peer(struct run *run, struct peer *peer, size_t first, size_t count)
{
    const struct options *options = &run->options;
    const struct link_line *lines = &options->table.lines[first];
    const char *password = lines[0].token[0] != '\0' ? lines[0].token : options->token;
    struct sasl_login login = {options->cbs ? NULL : options->user, password ? password : ""};
    if (!peer_connect(peer, options->server, &login))
        return false;
    if (options->cbs) {
        struct claim *claims = calloc(count, sizeof *claims);
        for (size_t i = 0; i < count; i++)
            claims[i] = (struct claim){lines[i].address, lines[i].token};
        bool granted = cbs_put_tokens(peer, claims, count);
        free(claims);
        if (!granted)
            return false;
    }
    attach_links(run, peer, first, count);
    return true;
}

static bool connect_all(struct run *run)
{
    const struct link_table *table = &run->options.table;
    for (size_t first = 0, end; first < table->count; first = end) {
        struct peer *peer = &run->peers[run->peer_count++];
        for (end = first; end < table->count; end++)
            if (table->lines[end].connection != table->lines[first].connection)
                break;
        if (!connect_peer(run, peer, first, end - first)) {
            snprintf(run->error, sizeof run->error, "%s", peer->error);
            return false;
        }
        wait_once(run); /* the other connections must not starve meanwhile */
    }
    while (run->attached < table->count && run->error[0] == '\0' && !stopping)
        wait_once(run);
    return run->error[0] == '\0';
}

static bool start(struct run *run)
{
    const struct link_table *table = &run->options.table;
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = STDIN_MARK};
    struct epoll_event listen = {.events = EPOLLIN, .data.u32 = LISTEN_MARK};
    int port = 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    run->expected = run->options.count;
    run->peers = calloc(table->connections, sizeof *run->peers);
    run->polled = calloc(table->connections, sizeof *run->polled);
    run->subscribers = calloc(table->count, sizeof *run->subscribers);
    epoll_ctl(run->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input); /* a plain file cannot be polled: fine */
    if (run->options.listen == NULL) {
        bool connected = connect_all(run);
        fprintf(stderr, connected ? "ready\n" : "failed\n");
        return connected;
    }
    run->listener = peer_listen(run->options.listen, &port);
    if (run->listener < 0) {
        snprintf(run->error, sizeof run->error, "cannot listen on %s", run->options.listen);
        return false;
    }
    epoll_ctl(run->epoll, EPOLL_CTL_ADD, run->listener, &listen);
    fprintf(stderr, "ready %d\n", port);
    return true;
}

static void report(const struct run *run)
{
    double elapsed = (double)(run->last_ns - run->first_ns) / 1e9;
    unsigned seconds = run->received > 0 ? (unsigned)elapsed + 1 : 0;
    size_t links = run->options.table.count;
    printf("{\"client\":\"load-recv\",\"links\":%zu,\"connections\":%u,\"received\":%llu,"
           "\"settled\":%llu,\"unaccepted\":%llu,\"foreign\":%llu,\"disordered\":%llu,"
           "\"bytes\":%llu,\"first_ns\":%lld,\"last_ns\":%lld,\"elapsed_s\":%.6f,\"rate\":%.1f",
           links, run->options.table.connections, (unsigned long long)run->received,
           (unsigned long long)run->settled, (unsigned long long)run->unaccepted,
           (unsigned long long)run->foreign, (unsigned long long)run->disordered,
           (unsigned long long)run->bytes, (long long)run->first_ns, (long long)run->last_ns,
           elapsed, elapsed > 0 ? (double)run->received / elapsed : 0.0);
    text_print_cpu(stdout);
    text_print_counts("per_second", run->per_second,
                      seconds < SECONDS_MAX ? seconds : SECONDS_MAX, stdout);
    printf(",\"per_link\":[");
    for (size_t i = 0; i < links; i++)
        printf("%s%llu", i > 0 ? "," : "", (unsigned long long)run->subscribers[i].received);
    printf("],\"latency\":");
    histogram_print(&run->latency, stdout);
    printf(",\"error\":");
    text_print_json(run->error, stdout);
    printf("}\n");
}

int main(int argc, char **argv)
{
    static struct run run;
    run.options = parse_options(argc, argv);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (start(&run)) {
        run.ready_ns = now_ns();
        while (!finished(&run))
            wait_once(&run);
    }
    report(&run);
    fflush(stdout);
    for (unsigned i = 0; i < run.peer_count; i++)
        if (!run.peers[i].closed)
            peer_close(&run.peers[i]);
    return run.error[0] == '\0' && (run.expected == 0 || run.received == run.expected) ? 0 : 1;
}
