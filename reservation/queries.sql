-- name: current_epochs
-- The epochs scripts must carry, in the order of the partitions.
SELECT array_agg(epoch ORDER BY partition) FROM reservation.epochs;

-- name: gate_book
-- The epoch of each partition, and the server its maps were made on; with PostgreSQL's own place in time, which a
-- standby does not have.
SELECT array_agg(e.epoch ORDER BY partition) AS epochs, array_agg(e.server ORDER BY partition) AS servers,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS timeline,
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_lsn() - '0/0')::bigint END AS wal_bytes
FROM reservation.epochs e;

-- name: raise_epochs
-- First step of a rebuild: from here on nothing of the old epochs is believed. An epoch is above the one of the
-- data too, which may have seen more than this database, if that was ever set back; and above those of all other
-- partitions: scripts know their epoch alone, and what is loaded for one must fit no older map of another.
UPDATE reservation.epochs e
SET epoch = greatest((SELECT max(epoch) FROM reservation.epochs), (SELECT max(seen) FROM unnest($2::bigint[]) AS seen))
      + 1, reason = $3::text, raised_at = now(), opened_at = NULL
FROM unnest($1::smallint[], $2::bigint[]) AS asked (partition, seen)
WHERE e.partition = asked.partition
RETURNING e.partition, e.epoch;

-- name: note_opened
-- Last but one step of a rebuild: who serves these partitions from now on. Whose epoch was raised meanwhile is
-- not among the answer.
WITH made AS (
  SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[]) AS made (partition, epoch, server)
), opened AS (
  UPDATE reservation.epochs e SET server = made.server, opened_at = now()
  FROM made JOIN reservation.epochs before USING (partition)
  WHERE e.partition = made.partition AND e.epoch = made.epoch
  RETURNING e.partition, e.epoch, e.server, before.server AS replaced
), trusted AS (
  DELETE FROM reservation.former_servers f USING opened
  WHERE f.partition = opened.partition AND f.server = opened.server
), dropped AS (
  INSERT INTO reservation.former_servers (partition, server, replaced_in)
  SELECT partition, replaced, epoch FROM opened WHERE replaced <> server
  ON CONFLICT (partition, server) DO NOTHING
)
SELECT partition FROM opened;

-- name: replaced_servers
-- Which of these servers were replaced by others.
SELECT asked.partition
FROM unnest($1::smallint[], $2::text[]) AS asked (partition, server)
JOIN reservation.former_servers f USING (partition, server);

-- name: rename_server
-- A server goes by another name, with the data it had.
UPDATE reservation.epochs SET server = $3::text
WHERE partition = ANY ($1::smallint[]) AND server = $2::text;

-- name: has_an_epoch
-- Whether this database was ever migrated.
SELECT to_regclass('reservation.epochs') IS NOT NULL;

-- name: raise_epochs_after_restore
-- What Redis has may be of a later epoch than a database made again from a backup, so counting on from there could
-- name one that was given already. Milliseconds since 1970 are ahead of every count, and of every restore before.
WITH raised AS (
  UPDATE reservation.epochs
  SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
      reason = $1::text, raised_at = now(), opened_at = NULL
  RETURNING epoch
)
SELECT max(epoch) FROM raised;

-- name: lock_rebuild
-- One rebuild at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('seatrush.rebuild'));

-- name: keep_rebuild_lock
-- A sign of life, or PostgreSQL takes whoever has the lock for gone.
SELECT true;

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
-- Sales Redis has not heard of yet: a crash came between the two. In no order: some may have a server that hears
-- nothing for hours, and are not always to be the ones that are tried.
SELECT i.showtime_id, i.layout_id, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.orphan_rule,
       i.opened_epoch, i.xmin::text::bigint AS revision, l.seat_count
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id)
WHERE i.opened_epoch IS NULL
ORDER BY random()
LIMIT $1::int;

-- name: mark_opened
-- These seat maps live in Redis since this epoch, under the terms of this revision of the row (the transaction
-- that wrote it). A row that was written since may have other terms: Redis has not heard of it, whoever said so.
UPDATE reservation.inventories i
SET opened_epoch = CASE WHEN i.xmin::text::bigint = told.revision THEN told.epoch END
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS told (showtime_id, revision, epoch)
WHERE i.showtime_id = told.showtime_id
RETURNING i.showtime_id, i.opened_epoch;

-- name: change_sale
-- New phase or window; Redis learns them next, and the completer tells it if we cannot.
UPDATE reservation.inventories
SET phase = coalesce($2::text, phase), opens_at = coalesce($3::timestamptz, opens_at),
    closes_at = coalesce($4::timestamptz, closes_at), opened_epoch = NULL
WHERE showtime_id = $1::text;

-- name: pause_open_sales
-- Of these sales the open ones are paused; Redis learns it next, and the completer tells it if we cannot.
UPDATE reservation.inventories SET phase = 'paused', opened_epoch = NULL
WHERE showtime_id = ANY ($1::text[]) AND phase = 'open'
RETURNING showtime_id;

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
