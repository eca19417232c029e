/*
 * The code that both load generators share: they open subscribers, read their streams, and check every event
 * against the expected sequences. They read commands from stdin, one per line, and answer each with one line of
 * JSON. These commands are the same for both:
 *
 *     connect N SECONDS   open N more subscribers, WINDOW at a time
 *     watch SECONDS       read the streams for this time
 *     quit
 *
 * An event's data are SIZE bytes: ten digits of a number that begins at FIRST, a separator, nineteen digits of
 * CLOCK_MONOTONIC in nanoseconds, a separator, and padding. With several LANES, each of which has its own sequence,
 * the two digits of a lane and a separator precede them. The including file defines LANES.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 100
#define FIRST 1000000000LL
#define MOST 20000
#define WINDOW 64
#define HEAD 4096
#define LINE 256
#define REQUEST 8192
/* Seconds until the process exits by itself, if nothing else ends it. */
#define LIFE 900
/* Latencies are counted in steps of 10 microseconds, up to 10 seconds. */
#define STEP 10000
#define STEPS 1000000

enum phase { CONNECTING, IN_HEAD, IN_SIZE, IN_DATA, AFTER_DATA, UNTIL_CLOSED, GONE };

struct subscriber {
    int fd;
    enum phase phase;
    int64_t next[LANES];
    int64_t has;
    uint64_t left;
    char *head;
    int head_length;
    int line_length;
    char line[LINE];
};

static struct subscriber subscribers[MOST];
/* For each lane, the number of the next event for a new subscriber; how many events each subscriber has at the end. */
static int64_t next_number[LANES], target;
static int opened, connected, connecting, arrived;
static int epoll, port;
static char subscribe[REQUEST];
static int subscribe_length;
static uint32_t latencies[STEPS];
static uint64_t events, reads, comments, wrong, refused, closed, longest;
static char complaint[200];

/* Handles events of sockets that are no subscribers: in epoll, their numbers begin at MOST. */
static void (*take_other)(int number);

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void complain(const char *what, const char *text, int length)
{
    if (complaint[0])
        return;
    char clean[81];
    int kept = 0;
    for (int i = 0; i < length && kept < 80; i++)
        clean[kept++] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] == 127 ? '.' : text[i];
    clean[kept] = 0;
    snprintf(complaint, sizeof complaint, "%s: %s", what, clean);
}

static void refuse(const char *what, const char *text, int length)
{
    refused++;
    complain(what, text, length);
}

static void end(struct subscriber *one)
{
    if (one->phase == CONNECTING || one->phase == IN_HEAD)
        connecting--;
    /* A reset leaves no port in TIME_WAIT; otherwise later runs would soon find no free port. */
    struct linger linger = {1, 0};
    setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(one->fd);
    free(one->head);
    one->head = NULL;
    one->phase = GONE;
    closed++;
}

static int64_t digits(const char *text, int count)
{
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        number = number * 10 + text[i] - '0';
    }
    return number;
}

static void take_line(struct subscriber *one, const char *line, int length, int64_t at)
{
    if (length && line[length - 1] == '\r')
        length--;
    if (length && line[0] == ':')
        comments++;
    if (length < 5 || memcmp(line, "data:", 5))
        return;
    line += 5, length -= 5;
    if (length && *line == ' ')
        line++, length--;
    const char *text = LANES > 1 ? line + 3 : line;
    int64_t lane = length != SIZE ? -1 : LANES > 1 ? digits(line, 2) : 0;
    int64_t number = lane >= 0 && lane < LANES ? digits(text, 10) : -1;
    if (number < 0) {
        wrong++;
        complain("not an event", line, length);
        return;
    }
    if (number != one->next[lane]) {
        wrong++;
        complain(number < one->next[lane] ? "seen before" : "one is missing", line, length);
    }
    one->next[lane] = number + 1;
    events++;
    if (++one->has == target)
        arrived++;
    int64_t took = at - digits(text + 11, 19);
    if (took < 0)
        took = 0;
    if ((uint64_t)took > longest)
        longest = took;
    took /= STEP;
    latencies[took < STEPS ? took : STEPS - 1]++;
}

static void take_text(struct subscriber *one, const char *text, uint64_t length, int64_t at)
{
    while (length) {
        const char *stop = memchr(text, '\n', length);
        uint64_t size = stop ? (uint64_t)(stop - text) : length;
        if (stop && !one->line_length) {
            take_line(one, text, size, at);
        } else {
            if (one->line_length + size > LINE) {
                wrong++;
                complain("the line is too long", text, size);
                one->line_length = 0;
            } else {
                memcpy(one->line + one->line_length, text, size);
                one->line_length += size;
            }
            if (stop) {
                take_line(one, one->line, one->line_length, at);
                one->line_length = 0;
            }
        }
        if (!stop)
            return;
        text += size + 1;
        length -= size + 1;
    }
}

/* Parses the body, chunked or not; the state is kept in the subscriber. */
static void take_body(struct subscriber *one, const char *text, uint64_t length, int64_t at)
{
    while (length) {
        uint64_t size;
        char byte;
        switch (one->phase) {
        case UNTIL_CLOSED:
            take_text(one, text, length, at);
            return;
        case IN_DATA:
            size = length < one->left ? length : one->left;
            take_text(one, text, size, at);
            text += size, length -= size, one->left -= size;
            if (!one->left)
                one->phase = AFTER_DATA;
            break;
        case AFTER_DATA:
            byte = *text++, length--;
            if (byte == '\n')
                one->phase = IN_SIZE;
            break;
        default:
            byte = *text++, length--;
            if (byte == '\n') {
                one->phase = IN_DATA;
                if (!one->left) {
                    complain("the stream has ended", "", 0);
                    end(one);
                    return;
                }
            } else if (byte != '\r') {
                int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10;
                one->left = one->left * 16 + (digit & 15);
            }
        }
    }
}

static void take_head(struct subscriber *one, const char *text, uint64_t length, int64_t at)
{
    uint64_t size = length;
    if (one->head_length + size > HEAD - 1)
        size = HEAD - 1 - one->head_length;
    int before = one->head_length;
    memcpy(one->head + before, text, size);
    one->head_length += size;
    one->head[one->head_length] = 0;
    char *stop = strstr(one->head, "\r\n\r\n");
    if (!stop) {
        if (one->head_length == HEAD - 1) {
            refuse("the head is too long", one->head, 80);
            end(one);
        }
        return;
    }
    uint64_t used = stop + 4 - one->head - before;
    stop[2] = 0;
    if (strncmp(one->head, "HTTP/1.1 200", 12) || !strcasestr(one->head, "\r\ncontent-type: text/event-stream")) {
        refuse("no event stream", one->head, one->head_length);
        end(one);
        return;
    }
    one->phase = strcasestr(one->head, "\r\ntransfer-encoding: chunked") ? IN_SIZE : UNTIL_CLOSED;
    free(one->head);
    one->head = NULL;
    memcpy(one->next, next_number, sizeof next_number);
    one->has = target;
    connecting--;
    connected++;
    take_body(one, text + used, length - used, at);
}

static int open_socket(int number)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in here = {.sin_family = AF_INET};
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    /* Use several addresses, because one address has too few ports for many clients. */
    here.sin_addr.s_addr = htonl(0x7f000001 + number % 32);
    there.sin_addr.s_addr = htonl(0x7f000001);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) ||
        (connect(fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void open_one(void)
{
    struct subscriber *one = &subscribers[opened];
    one->fd = open_socket(opened);
    one->phase = CONNECTING;
    one->head = malloc(HEAD);
    struct epoll_event event = {EPOLLOUT, {.u32 = opened}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
    opened++;
    connecting++;
}

static void ask(struct subscriber *one)
{
    if (send(one->fd, subscribe, subscribe_length, MSG_NOSIGNAL) != subscribe_length) {
        refuse("cannot connect", strerror(errno), strlen(strerror(errno)));
        end(one);
        return;
    }
    one->phase = IN_HEAD;
    struct epoll_event event = {EPOLLIN, {.u32 = one - subscribers}};
    epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd, &event);
}

static void take(struct subscriber *one)
{
    static char buffer[65536];
    ssize_t length = recv(one->fd, buffer, sizeof buffer, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        complain("the connection was closed", "", 0);
        end(one);
        return;
    }
    reads++;
    if (one->phase == IN_HEAD)
        take_head(one, buffer, length, now());
    else
        take_body(one, buffer, length, now());
}

static void take_events(int64_t until)
{
    static struct epoll_event found[1024];
    int64_t rest = (until - now()) / 1000000;
    int count = epoll_wait(epoll, found, 1024, rest < 0 ? 0 : rest > 1000 ? 1000 : rest + 1);
    for (int i = 0; i < count; i++) {
        if (found[i].data.u32 >= MOST) {
            take_other(found[i].data.u32 - MOST);
            continue;
        }
        struct subscriber *one = &subscribers[found[i].data.u32];
        if (one->phase == CONNECTING)
            ask(one);
        else if (one->phase != GONE)
            take(one);
    }
}

static double quantile(uint64_t total, double part)
{
    uint64_t wanted = total * part, seen = 0;
    for (int i = 0; i < STEPS; i++)
        if ((seen += latencies[i]) > wanted)
            return (i + 0.5) * STEP / 1e9;
    return 0;
}

static double seconds(struct timeval time)
{
    return time.tv_sec + time.tv_usec / 1e6;
}

/* Writes the answer, and resets the counters. More has additional fields of the answer. */
static void report(int64_t began, const char *more)
{
    static struct rusage before;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"seconds\": %.6f, %s\"connected\": %d, \"arrived\": %d, \"events\": %lu, \"reads\": %lu, "
           "\"comments\": %lu, \"wrong\": %lu, \"refused\": %lu, \"closed\": %lu, \"user\": %.6f, "
           "\"system\": %.6f, \"p50\": %.6f, \"p99\": %.6f, \"longest\": %.6f, \"complaint\": \"%s\"}\n",
           (now() - began) / 1e9, more, connected, arrived, events, reads, comments, wrong, refused, closed,
           seconds(usage.ru_utime) - seconds(before.ru_utime), seconds(usage.ru_stime) - seconds(before.ru_stime),
           quantile(events, 0.5), quantile(events, 0.99), longest / 1e9, complaint);
    fflush(stdout);
    before = usage;
    events = reads = comments = longest = 0;
    memset(latencies, 0, sizeof latencies);
}

/* Executes the commands that are the same for both. */
static void obey(const char *command, int64_t began)
{
    int count;
    double most;
    if (sscanf(command, "connect %d %lf", &count, &most) == 2) {
        int wanted = opened + count > MOST ? MOST : opened + count;
        while ((opened < wanted || connecting) && now() < began + most * 1e9) {
            while (opened < wanted && connecting < WINDOW)
                open_one();
            take_events(began + most * 1e9);
        }
    } else if (sscanf(command, "watch %lf", &most) == 1) {
        while (now() < began + most * 1e9)
            take_events(began + most * 1e9);
    } else {
        exit(0);
    }
}

static void begin(const char *wanted_port)
{
    port = atoi(wanted_port);
    for (int lane = 0; lane < LANES; lane++)
        next_number[lane] = FIRST;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    alarm(LIFE);
}
