/*
 * The load generator: all its subscribers expect the same sequence of events.
 *
 *     load PORT PATH
 *
 * In addition to the commands of ../shared/subscribers.h, it accepts:
 *
 *     expect M SECONDS    wait until every subscriber has M more events, or for at most SECONDS
 */

#define LANES 1
#include "../shared/subscribers.h"

static void expect(int count, int64_t over)
{
    target += count;
    next_number[0] += count;
    arrived = 0;
    for (int i = 0; i < opened; i++)
        arrived += subscribers[i].phase != GONE && subscribers[i].has >= target;
    while (arrived < connected && !wrong && !closed && now() < over)
        take_events(over);
}

int main(int count, char **arguments)
{
    char input[256];
    if (count != 3) {
        fprintf(stderr, "usage: load PORT PATH\n");
        return 2;
    }
    subscribe_length = snprintf(subscribe, sizeof subscribe,
                                "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n",
                                arguments[2]);
    begin(arguments[1]);
    while (fgets(input, sizeof input, stdin)) {
        int64_t began = now();
        int updates;
        double most;
        if (sscanf(input, "expect %d %lf", &updates, &most) == 2)
            expect(updates, began + most * 1e9);
        else
            obey(input, began);
        report(began, "");
    }
    return 0;
}
