"""Rolling restarts, one every few seconds, under a crowd: `python -m tests.rolling_restart --seconds 600`.

The house, the crowd and the judgement are those of `seatrush chaos`; what is done to the house is what a
deployment does: every role in turn is told to finish, and another process takes its place. API processes are
replaced by `seatrush restart`, which has the successor ready first; order writer, reaper and sandbox gateway
are ended with SIGTERM and started again by the supervisor, so for a moment there is none.

The promise is: no request fails that a correct client would not repeat. The crowd is that client (people
repeat what was not answered or was answered with "not now", with the same key, for half a minute), so
what is counted as failed is what such a client is left with: "not now" for longer than that or without
saying when, and every other answer that is neither a success nor a refusal because of other people. How often
it had to repeat stands beside it.

Beside the crowd stand people who forgive nothing (`tests.support.strict_people`): they repeat no request, on
kept and on fresh connections, and watch the live map for a version that is missing. What they do needs only
the API and Redis, so nothing at all may happen to them.

Refused: `seatrush chaos --faults workers-rolled`. It draws its moments and its pairs, and it may repeat
whatever a fault costs; here nothing is broken, so nothing is forgiven.
"""
