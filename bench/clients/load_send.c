/* load-send: publish messages over one AMQP link and wait until each is accepted.
 *
 * Without --rate it sends as fast as credit and the window of unsettled deliveries allow.
 * With --rate every message has a time at which it is due; that time, not the time of the
 * actual send, is stamped into it, so that a broker that stalls is charged for every message
 * it held up (no coordinated omission). Prints one JSON object. */
#include <getopt.h>
#include <proton/delivery.h>
#include <proton/disposition.h>
#include <proton/link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "cbs.h"
#include "clock.h"
#include "histogram.h"
#include "message.h"
#include "objects.h"
#include "peer.h"
#include "text.h"

#define BURST 256u /* messages encoded between two writes */
#define TICK_NS (NS_PER_S / 4)
#define ATTACH_TIMEOUT_NS (30 * NS_PER_S)

struct options {
    const char *server, *address, *user, *token;
    uint64_t count, window, objects, first_object, at_once;
    double seconds, rate, zipf, settle_timeout_s;
    size_t size;
    unsigned sender;
    bool cbs;
};

struct run {
    struct options options;
    struct peer peer;
    pn_link_t *link;
    struct message_template message;
    struct objects objects;
    uint64_t sent, accepted, rejected, released, modified;
    int64_t start_ns, last_ns;
    struct histogram latency;
    uint64_t per_second[SECONDS_MAX];
};

static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static const char usage[] =
    "usage: load-send --server HOST:PORT --address ADDRESS (--count N | --seconds S) [options]\n"
    "  --size BYTES         encoded message, all sections (323)\n"
    "  --objects N          distinct objectId values obj-00000000… (100)\n"
    "  --first-object N     number of the first of them (0)\n"
    "  --zipf EXPONENT      draw objects by Zipf instead of in turn\n"
    "  --window N           unsettled deliveries at most (4000)\n"
    "  --rate N             messages a second, stamped when due\n"
    "  --at-once N          so many are due together, at the same rate (1)\n"
    "  --sender N           number of this sender in the stamp, 0..99 (0)\n"
    "  --settle-timeout S   wait for the last outcomes at most (30)\n"
    "  --user NAME          SASL PLAIN with this user; otherwise ANONYMOUS\n"
    "  --token-file FILE    password or token (or environment BENCH_TOKEN)\n"
    "  --cbs                put the token to $cbs instead of using it as the password\n";

enum { O_SERVER = 1, O_ADDRESS, O_COUNT, O_SECONDS, O_SIZE, O_OBJECTS, O_ZIPF, O_WINDOW, O_RATE,
       O_SENDER, O_SETTLE_TIMEOUT, O_USER, O_TOKEN_FILE, O_CBS, O_FIRST_OBJECT, O_AT_ONCE,
       O_HELP };

static const struct option long_options[] = {
    {"server", 1, 0, O_SERVER}, {"address", 1, 0, O_ADDRESS}, {"count", 1, 0, O_COUNT},
    {"seconds", 1, 0, O_SECONDS}, {"size", 1, 0, O_SIZE}, {"objects", 1, 0, O_OBJECTS},
    {"zipf", 1, 0, O_ZIPF}, {"window", 1, 0, O_WINDOW}, {"rate", 1, 0, O_RATE},
    {"sender", 1, 0, O_SENDER}, {"settle-timeout", 1, 0, O_SETTLE_TIMEOUT},
    {"user", 1, 0, O_USER}, {"token-file", 1, 0, O_TOKEN_FILE}, {"cbs", 0, 0, O_CBS},
    {"first-object", 1, 0, O_FIRST_OBJECT}, {"at-once", 1, 0, O_AT_ONCE},
    {"help", 0, 0, O_HELP}, {0, 0, 0, 0}};

static void take_option(struct options *options, int option)
{
    switch (option) {
    case O_SERVER: options->server = optarg; break;
    case O_ADDRESS: options->address = optarg; break;
    case O_COUNT: options->count = (uint64_t)text_number("--count", optarg, 1, 1e12); break;
    case O_SECONDS: options->seconds = text_number("--seconds", optarg, 0.01, SECONDS_MAX); break;
    case O_SIZE:
        options->size = (size_t)text_number("--size", optarg, (double)message_size_min(),
                                            MESSAGE_MAX_BYTES);
        break;
    case O_OBJECTS: options->objects = (uint64_t)text_number("--objects", optarg, 1, 1e7); break;
    case O_FIRST_OBJECT:
        options->first_object = (uint64_t)text_number("--first-object", optarg, 0, 9e7);
        break;
    case O_AT_ONCE: options->at_once = (uint64_t)text_number("--at-once", optarg, 1, BURST); break;
    case O_ZIPF: options->zipf = text_number("--zipf", optarg, 0, 10); break;
    case O_WINDOW: options->window = (uint64_t)text_number("--window", optarg, 1, 1e6); break;
    case O_RATE: options->rate = text_number("--rate", optarg, 0.001, 1e7); break;
    case O_SENDER: options->sender = (unsigned)text_number("--sender", optarg, 0, 99); break;
    case O_SETTLE_TIMEOUT:
        options->settle_timeout_s = text_number("--settle-timeout", optarg, 0, 3600);
        break;
    case O_USER: options->user = optarg; break;
    case O_TOKEN_FILE: options->token = text_read_line(optarg); break;
    case O_CBS: options->cbs = true; break;
    case O_HELP: fputs(usage, stdout); exit(0);
    default: fputs(usage, stderr); exit(2);
    }
}

static struct options parse_options(int argc, char **argv)
{
    struct options options = {.size = 323, .objects = 100, .window = 4000, .settle_timeout_s = 30,
                              .at_once = 1, .token = getenv("BENCH_TOKEN")};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(&options, option);
    bool bounded = options.count > 0 || options.seconds > 0;
    bool secret = options.token != NULL || (options.user == NULL && !options.cbs);
    if (options.server == NULL || options.address == NULL || !bounded || !secret ||
        optind < argc) {
        fputs(secret ? usage : "load-send: no token: set BENCH_TOKEN or --token-file\n", stderr);
        exit(2);
    }
    return options;
}

static void take_outcome(struct run *run, pn_delivery_t *delivery)
{
    int64_t now = now_ns();
    uint64_t second = (uint64_t)(now - run->start_ns) / NS_PER_S;
    switch (pn_delivery_remote_state(delivery)) {
    case PN_ACCEPTED:
        run->accepted++;
        histogram_add(&run->latency,
                      now - (int64_t)(intptr_t)pn_delivery_get_context(delivery));
        if (second < SECONDS_MAX)
            run->per_second[second]++;
        break;
    case PN_REJECTED: run->rejected++; break;
    case PN_MODIFIED: run->modified++; break;
    case PN_RELEASED: run->released++; break;
    default:
        if (!pn_delivery_settled(delivery))
            return; /* news, but no outcome yet */
        run->released++;
    }
    run->last_ns = now;
    pn_delivery_settle(delivery);
}

static uint64_t settled(const struct run *run)
{
    return run->accepted + run->rejected + run->released + run->modified;
}

static void take_events(struct run *run)
{
    pn_event_t *event;
    while ((event = pn_collector_peek(run->peer.collector)) != NULL) {
        pn_delivery_t *delivery = pn_event_delivery(event);
        if (pn_event_type(event) == PN_DELIVERY && delivery != NULL) {
            if (pn_delivery_link(delivery) == run->link && pn_delivery_updated(delivery))
                take_outcome(run, delivery);
        } else {
            peer_failed(&run->peer, event);
        }
        pn_collector_pop(run->peer.collector);
    }
}

static int64_t due_ns(const struct run *run, uint64_t index)
{
    if (run->options.rate == 0)
        return 0;
    uint64_t first = index - index % run->options.at_once;
    return run->start_ns + (int64_t)((double)first * 1e9 / run->options.rate);
}

/* Nothing is left to send, or is due later than the run lasts. */
static bool sent_all(const struct run *run, int64_t now)
{
    const struct options *options = &run->options;
    int64_t at = options->rate > 0 ? due_ns(run, run->sent) : now;
    return stopping || (options->count > 0 && run->sent >= options->count) ||
           (options->seconds > 0 && at - run->start_ns >= (int64_t)(options->seconds * 1e9));
}

static void send_one(struct run *run, int64_t due)
{
    struct message_stamp stamp = {run->options.sender, run->sent + 1, due};
    message_stamp_write(&run->message, &stamp,
                        run->options.first_object + objects_pick(&run->objects, run->sent));
    pn_delivery_t *delivery =
        pn_delivery(run->link, pn_dtag((const char *)&stamp.seq, sizeof stamp.seq));
    pn_delivery_set_context(delivery, (void *)(intptr_t)due);
    pn_link_send(run->link, run->message.bytes, run->message.size);
    pn_link_advance(run->link);
    run->sent++;
}

/* Send what is due and allowed; how long until there may be more, in ns. */
static int64_t send_some(struct run *run)
{
    for (unsigned i = 0; i < BURST; i++) {
        int64_t now = now_ns(), due = due_ns(run, run->sent);
        if (sent_all(run, now) || run->peer.blocked || pn_link_credit(run->link) <= 0 ||
            run->sent - settled(run) >= run->options.window)
            return TICK_NS; /* only the far side, or the end of the run, changes that */
        if (due > now)
            return due - now < TICK_NS ? due - now : TICK_NS;
        send_one(run, due > 0 ? due : now);
    }
    return 0;
}

static void pump(struct run *run, int64_t wait_ns)
{
    peer_flush(&run->peer);
    if (wait_ns > 0 || run->peer.blocked)
        peer_wait(&run->peer, run->peer.blocked ? TICK_NS : wait_ns);
    peer_read(&run->peer);
    peer_tick(&run->peer);
    take_events(run);
}

static bool attach(struct run *run)
{
    int64_t limit = now_ns() + ATTACH_TIMEOUT_NS;
    struct claim claim = {run->options.address, run->options.token};
    if (run->options.cbs && !cbs_put_tokens(&run->peer, &claim, 1))
        return false;
    run->link = pn_sender(run->peer.session, "load-send");
    pn_terminus_set_address(pn_link_target(run->link), run->options.address);
    pn_terminus_set_address(pn_link_source(run->link), "load-send");
    pn_link_set_snd_settle_mode(run->link, PN_SND_UNSETTLED);
    pn_link_open(run->link);
    while (!run->peer.closed && pn_link_credit(run->link) <= 0) {
        if (now_ns() > limit)
            snprintf(run->peer.error, sizeof run->peer.error, "no credit for %s",
                     run->options.address);
        if (run->peer.error[0] != '\0')
            return false;
        pump(run, TICK_NS);
    }
    return !run->peer.closed;
}

static void publish(struct run *run)
{
    int64_t settle_limit = 0, now;
    run->start_ns = run->last_ns = now_ns();
    while (!run->peer.closed) {
        int64_t wait_ns = send_some(run);
        now = now_ns();
        if (sent_all(run, now)) {
            if (settle_limit == 0)
                settle_limit = now + (int64_t)(run->options.settle_timeout_s * 1e9);
            if (settled(run) >= run->sent || now > settle_limit)
                return;
        }
        pump(run, wait_ns);
    }
}

static void report(const struct run *run)
{
    double elapsed = (double)(run->last_ns - run->start_ns) / 1e9;
    unsigned seconds = (unsigned)elapsed + 1;
    printf("{\"client\":\"load-send\",\"sent\":%llu,\"accepted\":%llu,\"rejected\":%llu,"
           "\"released\":%llu,\"modified\":%llu,\"message_bytes\":%zu,\"elapsed_s\":%.6f,"
           "\"rate\":%.1f",
           (unsigned long long)run->sent, (unsigned long long)run->accepted,
           (unsigned long long)run->rejected, (unsigned long long)run->released,
           (unsigned long long)run->modified, run->options.size, elapsed,
           elapsed > 0 ? (double)run->accepted / elapsed : 0.0);
    text_print_cpu(stdout);
    text_print_counts("per_second", run->per_second,
                      seconds < SECONDS_MAX ? seconds : SECONDS_MAX, stdout);
    printf(",\"accept_latency\":");
    histogram_print(&run->latency, stdout);
    printf(",\"error\":");
    text_print_json(run->peer.error, stdout);
    printf("}\n");
}

int main(int argc, char **argv)
{
    static struct run run;
    run.options = parse_options(argc, argv);
    struct sasl_login login = {run.options.cbs ? NULL : run.options.user, run.options.token};
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default of 50 us would show in the latency */
    if (!message_template_init(&run.message, run.options.size) ||
        !objects_init(&run.objects, run.options.objects, run.options.zipf, 1)) {
        fputs("load-send: out of memory\n", stderr);
        return 1;
    }
    if (peer_connect(&run.peer, run.options.server, &login) && attach(&run))
        publish(&run);
    report(&run);
    bool complete = run.peer.error[0] == '\0' && run.accepted == run.sent;
    peer_close(&run.peer);
    return complete ? 0 : 1;
}
