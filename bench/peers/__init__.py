"""Peers and floors: what a good engineer would have written in a day, and the least it could be.

Owns one small honest server a file: uvloop, orjson, no access log, pooled connections, the same engines
with the same durability as the product. They take a hold as `POST /hold {"showtime_id", "seats": [labels],
"buyer_id", "hold_id"}` and answer 201 or 409. What they leave out is in their favour: no token is checked,
no idempotency key, no orphan rule, no seat limit of a showtime's own. Does not own how they are measured.
"""
