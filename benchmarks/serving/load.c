/*
 * The load generator: it publishes over HTTP on several connections, each of which has its own lane.
 *
 *     load PORT SUBSCRIBE PUBLISH
 *
 * SUBSCRIBE and PUBLISH are files that contain a whole request. In the request to publish, SIZE bytes of @
 * are the placeholder for the data. In addition to the commands of ../shared/subscribers.h, it accepts:
 *
 *     publish COUNT LANES RATE SECONDS   publish COUNT updates on LANES connections, RATE a second; with RATE 0,
 *                                        each connection publishes when its previous update is acknowledged;
 *                                        wait until every subscriber has them, or for at most SECONDS
 *
 * Dots separate the parts of the data, because a form need not encode dots.
 */

#define LANES 16
#include "../shared/subscribers.h"

struct publisher {
    int fd;
    int waits;
    int length;
    char answer[HEAD];
};

static struct publisher publishers[LANES];
static int lanes, paced;
static int64_t unsent, unanswered, last_answer;
static char publish[REQUEST];
static int publish_length;
static char *data;

static void publish_one(int lane)
{
    struct publisher *one = &publishers[lane];
    char written[40];
    snprintf(written, sizeof written, "%02d.%010ld.%019ld.", lane, next_number[lane]++, now());
    memcpy(data, written, 34);
    one->waits = 1;
    one->length = 0;
    unsent--;
    if (send(one->fd, publish, publish_length, MSG_NOSIGNAL) != publish_length)
        refuse("cannot publish", strerror(errno), strlen(strerror(errno)));
}

static void take_answer(int lane)
{
    struct publisher *one = &publishers[lane];
    ssize_t length = recv(one->fd, one->answer + one->length, HEAD - 1 - one->length, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0 || !one->waits) {
        refuse(length > 0 ? "a response without a request" : "a publisher's connection was closed", "", 0);
        epoll_ctl(epoll, EPOLL_CTL_DEL, one->fd, NULL);
        return;
    }
    one->length += length;
    one->answer[one->length] = 0;
    char *stop = strstr(one->answer, "\r\n\r\n");
    if (!stop)
        return;
    char *field = strcasestr(one->answer, "\r\ncontent-length:");
    if (strncmp(one->answer, "HTTP/1.1 20", 11) || !field || field > stop) {
        refuse("publishing got the response", one->answer, one->length);
        return;
    }
    if (stop + 4 - one->answer + atoi(field + 17) > one->length)
        return;
    one->waits = 0;
    unanswered--;
    last_answer = now();
    if (!paced && unsent)
        publish_one(lane);
}

static void open_publishers(int count)
{
    for (; lanes < count; lanes++) {
        struct publisher *one = &publishers[lanes];
        int yes = 1;
        one->fd = open_socket(lanes);
        setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        poll(&(struct pollfd){one->fd, POLLOUT, 0}, 1, 1000);
        struct epoll_event event = {EPOLLIN, {.u32 = MOST + lanes}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
    }
}

static void publish_all(int64_t count, int wanted, double rate, int64_t began, int64_t over)
{
    target += count;
    arrived = 0;
    unsent = unanswered = count;
    paced = rate > 0;
    open_publishers(wanted);
    /* Each connection sends its next update when this one is acknowledged. */
    for (int lane = 0; lane < wanted && unsent && !paced; lane++)
        publish_one(lane);
    while ((unanswered || arrived < connected) && !wrong && !closed && !refused && now() < over) {
        int64_t until = over;
        for (int lane = 0; lane < wanted && unsent && paced; lane++) {
            int64_t due = began + (count - unsent) / rate * 1e9;
            if (!publishers[lane].waits && now() >= due)
                publish_one(lane);
            else if (!publishers[lane].waits && due < until)
                until = due;
        }
        take_events(until);
    }
}

static int read_request(const char *path, char *request)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    int length = fread(request, 1, REQUEST - 1, file);
    fclose(file);
    request[length] = 0;
    return length;
}

/* Returns the figures of the publishers, for report(). */
static const char *figures(int64_t began)
{
    static char text[80];
    double answered = last_answer > began ? (last_answer - began) / 1e9 : 0;
    snprintf(text, sizeof text, "\"answered\": %.6f, \"unanswered\": %ld, ", answered, unanswered);
    return text;
}

int main(int count, char **arguments)
{
    char input[256], mark[SIZE + 1];
    if (count != 4) {
        fprintf(stderr, "usage: load PORT SUBSCRIBE PUBLISH\n");
        return 2;
    }
    subscribe_length = read_request(arguments[2], subscribe);
    publish_length = read_request(arguments[3], publish);
    memset(mark, '@', SIZE);
    mark[SIZE] = 0;
    data = strstr(publish, mark);
    if (!data) {
        fprintf(stderr, "%s has no place for data\n", arguments[3]);
        return 2;
    }
    memset(data, 'x', SIZE);
    take_other = take_answer;
    begin(arguments[1]);
    while (fgets(input, sizeof input, stdin)) {
        int64_t began = now();
        long updates;
        int wanted;
        double rate, most;
        if (sscanf(input, "publish %ld %d %lf %lf", &updates, &wanted, &rate, &most) == 4)
            publish_all(updates, wanted > LANES ? LANES : wanted, rate, began, began + most * 1e9);
        else
            obey(input, began);
        report(began, figures(began));
    }
    return 0;
}
