-- name: current_epoch
-- The epoch scripts must carry.
SELECT epoch FROM reservation.epoch;

-- name: raise_epoch
-- First step of a rebuild: from here on nothing of the old epoch is believed.
UPDATE reservation.epoch SET epoch = epoch + 1, reason = $1::text, raised_at = now() RETURNING epoch;

-- name: lock_rebuild
-- One rebuild at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('seatrush.rebuild'));

-- name: keep_rebuild_waiting
-- No rebuild begins until the transaction ends; false when one runs or waits for its turn.
SELECT pg_try_advisory_xact_lock_shared(hashtext('seatrush.rebuild'));

-- name: keep_layout
-- A layout is its content, so keeping it twice is keeping it once.
INSERT INTO reservation.layouts (layout_id, name, seat_count, document)
VALUES ($1::text, $2::text, $3::int, $4::jsonb)
ON CONFLICT (layout_id) DO NOTHING;

-- name: find_layout
-- The geometry of a layout, as text: a stadium's is read on another thread.
SELECT document::text FROM reservation.layouts WHERE layout_id = $1::text;

-- name: add_inventories
-- New sales with their terms; a repeat changes nothing.
INSERT INTO reservation.inventories
  (showtime_id, layout_id, opens_at, closes_at, buyer_seats_max, orphan_rule)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::int[], $6::text[])
ON CONFLICT (showtime_id) DO NOTHING;

-- name: find_inventories
-- The terms of some sales, with the size of their halls.
SELECT i.showtime_id, i.layout_id, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.orphan_rule,
       i.opened_epoch, i.xmin::text::bigint AS revision, l.seat_count
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id)
WHERE i.showtime_id = ANY ($1::text[]);

-- name: inventories_near_opening
-- The sales that open within an interval, soonest first, and those that opened last and have not ended; so many
-- of each at the most, ended ones counted, so that nothing is looked through.
SELECT i.showtime_id, i.layout_id, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.orphan_rule,
       i.opened_epoch, i.revision, l.seat_count
FROM (
  (SELECT *, xmin::text::bigint AS revision FROM reservation.inventories
   WHERE phase <> 'closed' AND opens_at > now() AND opens_at <= now() + $1::interval
   ORDER BY opens_at LIMIT $2::int)
  UNION ALL
  (SELECT *, xmin::text::bigint AS revision FROM reservation.inventories
   WHERE phase <> 'closed' AND opens_at <= now()
   ORDER BY opens_at DESC LIMIT $2::int)
) AS i JOIN reservation.layouts l USING (layout_id)
WHERE i.closes_at IS NULL OR i.closes_at > now()
ORDER BY i.opens_at <= now(), abs(extract(epoch FROM i.opens_at - now())), i.showtime_id;

-- name: all_inventories
-- Every sale, for a rebuild and for the audit.
SELECT i.showtime_id, i.layout_id, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.orphan_rule,
       i.opened_epoch, i.xmin::text::bigint AS revision, l.seat_count
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id)
ORDER BY i.showtime_id;

-- name: unopened_inventories
-- Sales Redis has not heard of yet: a crash came between the two.
SELECT i.showtime_id, i.layout_id, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.orphan_rule,
       i.opened_epoch, i.xmin::text::bigint AS revision, l.seat_count
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id)
WHERE i.opened_epoch IS NULL
ORDER BY i.created_at
LIMIT $1::int;

-- name: mark_opened
-- These seat maps live in Redis since this epoch, under the terms of this revision of the row (the transaction
-- that wrote it). A row that was written since may have other terms: Redis has not heard of it, whoever said so.
UPDATE reservation.inventories i
SET opened_epoch = CASE WHEN i.xmin::text::bigint = told.revision THEN $3::bigint END
FROM unnest($1::text[], $2::bigint[]) AS told (showtime_id, revision)
WHERE i.showtime_id = told.showtime_id
RETURNING i.showtime_id, i.opened_epoch;

-- name: change_sale
-- New phase or window; Redis learns them next, and the completer tells it if we cannot.
UPDATE reservation.inventories
SET phase = coalesce($2::text, phase), opens_at = coalesce($3::timestamptz, opens_at),
    closes_at = coalesce($4::timestamptz, closes_at), opened_epoch = NULL
WHERE showtime_id = $1::text;

-- name: add_blocked
-- House seats, after Redis took them.
INSERT INTO reservation.blocked_seats (showtime_id, seat_index, reason)
SELECT $1::text, seat, $3::text FROM unnest($2::int[]) AS seat
ON CONFLICT DO NOTHING;

-- name: drop_blocked
-- House seats go back on sale, before Redis frees them.
DELETE FROM reservation.blocked_seats WHERE showtime_id = $1::text AND seat_index = ANY ($2::int[]);

-- name: all_blocked
-- House seats by showtime.
SELECT showtime_id, array_agg(seat_index ORDER BY seat_index) AS seats
FROM reservation.blocked_seats GROUP BY showtime_id;
