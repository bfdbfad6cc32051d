"""Every limit has a name and a reason. Bounded work is bounded latency."""

from __future__ import annotations

from typing import Final

# Seats
seats_per_hold_max: Final = 10  # a family row and a bit; bounds every seat script
seats_per_buyer_default: Final = 10  # of one showtime: holds, claims and sales together
seats_per_buyer_max: Final = 1_000  # for rehearsals, where one account plays a whole crowd
seats_per_layout_max: Final = 65_535  # a seat index is an unsigned 16-bit number in every packed form
layout_file_bytes_max: Final = 32 * 1024 * 1024  # a 60,000-seat chart with labels is about 12 MiB

# Holds and claims
hold_ttl_ms: Final = 8 * 60 * 1000  # from the first seat held; long enough to choose and sign in
hold_lifetime_ms_max: Final = 30 * 60 * 1000  # extensions never reach beyond this
claim_ttl_ms: Final = 15 * 60 * 1000  # a gateway's own minimum is about ten minutes
sweep_batch_max: Final = 100  # holds a sweep frees in one script call: well under a millisecond
alternatives_max: Final = 3  # a fan reads three offers, not ten
best_available_tries_max: Final = 8  # two in five lose one while four workers sell one hall at full tilt

# Seat maps made anew
restore_records_per_call_max: Final = (
    250  # and as many deadlines: half a millisecond of the server, some 30 KB
)
restore_calls_in_flight_max: Final = 16  # of one showtime; others' commands find their turn between them
rebuild_seats_per_statement_max: Final = (
    131_070  # of the halls whose owners are asked for together: two stadia
)
rebuild_statements_in_flight_max: Final = 3  # one is asked for, one worked out, one taken in by Redis

# Requests
body_bytes_max: Final = 64 * 1024
json_depth_max: Final = 32
page_size_default: Final = 20
page_size_max: Final = 100
idempotency_key_length_max: Final = 64
request_lease_ms: Final = 15_000  # a twin is told "in progress" this long after a worker died
queue_wait_ms_max: Final = 200  # an answer within a few times this still feels at once
queue_burst_ms: Final = 500  # longer waits within this are a burst; what goes on beyond it is overload
retry_after_ms: Final = 1_000  # the least a caller who may ask again is told to wait, where no more is known
retry_spread_ms: Final = 4_000  # a crowd that was refused in one instant comes back over this long
retry_spread_alone_ms: Final = 2_000  # and one caller who waits for a twin of his own over this long
order_commit_wait_ms: Final = 1_500  # then 202 with a status link

# Connections, of one process
connections_max: Final = 20_000  # four times the live viewers one process is measured with
connections_per_address_max: Final = 1_024  # a hundred lines behind one carrier's address; a 20th of them all
surplus_connections_max: Final = 1_024  # refused ones that are given a moment to hear so

# Order writer
writer_batch_entries_max: Final = 4_000  # a transaction of a fifth of a second; larger ones gain little
writer_block_ms: Final = 500
writer_rest_ms: Final = 50  # between two reads without a backlog: how long one order may wait for others
writer_claim_idle_ms: Final = 10_000  # well above a batch's commit: a living writer is never robbed
log_retention_ms: Final = 24 * 60 * 60 * 1000  # kept behind PostgreSQL, so a rollback can be fed again
backlog_entries_calm: Final = 20_000  # five batches: up to here a writer catches up by itself
backlog_entries_max: Final = 200_000  # some 140 MB of claims, then no new holds; far below what a server has
backlog_retry_ms_max: Final = 30_000  # a hold refused for that is asked for again within half a minute

# The log of events
log_queue_bytes_max: Final = 1024 * 1024  # some 3,000 lines, a bad minute; twice that is kept at most

# PostgreSQL
transaction_idle_ms_max: Final = 15_000  # above the 10 s a statement may take; who is silent longer is gone

# Money
payments_per_order_max: Final = 20  # a fan tries a few cards; every try is in each look at the order
idempotency_days: Final = 30
forgotten_at_a_time_max: Final = 5_000  # rows of one statement that forgets: some tens of milliseconds
webhook_tolerance_s: Final = 300
webhook_body_bytes_max: Final = 64 * 1024
webhook_signatures_max: Final = 16  # changing a secret takes two or three; a header has room for thousands

# Accounts
password_length_min: Final = 8
password_bytes_max: Final = 1_024
display_name_length_max: Final = 100
access_token_ttl_s: Final = 12 * 60 * 60
sign_in_tries_per_login: Final = 10  # wrong ones in a row; nobody mistypes more often
sign_in_login_refill_s: Final = 30.0  # then one try each: 2,880 a day, of which a common password is one
sign_in_tries_per_address: Final = 100  # a school behind one address on the day of a sale
sign_in_address_refill_s: Final = 2.0
sign_in_remembered_max: Final = 32_768  # above what can be hashed in the time a bucket needs to fill
registrations_per_address: Final = 100  # an office behind one address that registers as a sale opens
registration_refill_s: Final = 3.0  # then 20 a minute: a school's evening, and no army of bots overnight

# Clocks
clock_skew_ms_max: Final = 2_000  # of a store and ours; beyond it nothing is sold, nor ends by one of them

# The link to the seat store
redis_in_flight_max: Final = 4_096  # of a node and process: some 60 ms of scripts; more would only wait
redis_deadline_ms: Final = 2_000  # then a caller is told that the outcome is unknown
redis_connect_ms: Final = 1_000  # dialling and greeting together, on a network worth having seats on
redis_backoff_ms_max: Final = 1_000  # a server that came back is found within this
