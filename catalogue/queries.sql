-- name: add_films
-- New films; those that exist stay as they are.
INSERT INTO catalogue.films
  (film_id, title_zh, title_en, title_pinyin, title_initials, year, release_date, running_time_min,
   genres, people, synopsis_zh, synopsis_en, search_text)
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::int, $7::date, $8::int,
        $9::text[], $10::jsonb, $11::text, $12::text, $13::text)
ON CONFLICT (film_id) DO NOTHING;

-- name: add_cinemas
-- New cinemas; those that exist stay as they are.
INSERT INTO catalogue.cinemas
  (cinema_id, name_zh, name_en, city_zh, city_en, address_zh, address_en, time_zone, search_text)
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text)
ON CONFLICT (cinema_id) DO NOTHING;

-- name: add_screens
-- New screens; those that exist stay as they are.
INSERT INTO catalogue.screens
  (screen_id, cinema_id, position, name_zh, name_en, format, layout_id, seat_count)
VALUES ($1::text, $2::text, $3::int, $4::text, $5::text, $6::text, $7::text, $8::int)
ON CONFLICT (screen_id) DO NOTHING;

-- name: add_showtimes
-- New showtimes; the answer names those that were not there before.
INSERT INTO catalogue.showtimes
  (showtime_id, film_id, screen_id, cinema_id, layout_id, seat_count, starts_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::timestamptz[])
ON CONFLICT (showtime_id) DO NOTHING
RETURNING showtime_id;

-- name: add_prices
-- Prices of showtimes that are new in the same transaction.
INSERT INTO catalogue.showtime_prices (showtime_id, area_id, amount_minor, currency)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]);

-- name: list_films
-- A page of films, newest first.
SELECT film_id, title_zh, title_en, title_pinyin, year, release_date, running_time_min, genres, people,
       synopsis_zh, synopsis_en
FROM catalogue.films
WHERE (year, film_id) < ($1::int, $2::text)
ORDER BY year DESC, film_id DESC
LIMIT $3::int;

-- name: find_films
-- Films by id.
SELECT film_id, title_zh, title_en, title_pinyin, year, release_date, running_time_min, genres, people,
       synopsis_zh, synopsis_en
FROM catalogue.films
WHERE film_id = ANY ($1::text[]);

-- name: list_cinemas
-- A page of cinemas by name.
SELECT cinema_id, name_zh, name_en, city_zh, city_en, address_zh, address_en, time_zone
FROM catalogue.cinemas
WHERE (name_en, cinema_id) > ($1::text, $2::text)
ORDER BY name_en, cinema_id
LIMIT $3::int;

-- name: find_cinemas
-- Cinemas by id.
SELECT cinema_id, name_zh, name_en, city_zh, city_en, address_zh, address_en, time_zone
FROM catalogue.cinemas
WHERE cinema_id = ANY ($1::text[]);

-- name: screens_of
-- The screens of a cinema in their own order.
SELECT screen_id, cinema_id, position, name_zh, name_en, format, layout_id, seat_count
FROM catalogue.screens
WHERE cinema_id = $1::text
ORDER BY position, screen_id;

-- name: search
-- What fits a folded query: whole names, then beginnings, then middles, then near misses. $2 to $4 are
-- the three patterns; the CASE repeats the conditions in the order they are wanted. $1 is null when near
-- misses are not wanted.
WITH found AS (
  SELECT 'film' AS kind, film_id AS id, -year AS place,
         CASE WHEN search_text LIKE $2::text THEN 0 WHEN search_text LIKE $3::text THEN 1
              WHEN search_text LIKE $4::text THEN 2 ELSE 3 END AS rank
  FROM catalogue.films
  WHERE search_text LIKE $4::text OR $1::text <% search_text
  UNION ALL
  SELECT 'cinema', cinema_id, 0,
         CASE WHEN search_text LIKE $2::text THEN 0 WHEN search_text LIKE $3::text THEN 1
              WHEN search_text LIKE $4::text THEN 2 ELSE 3 END
  FROM catalogue.cinemas
  WHERE search_text LIKE $4::text OR $1::text <% search_text
)
SELECT kind, id, place, rank
FROM found
WHERE (rank, place, id) > ($5::int, $6::int, $7::text)
ORDER BY rank, place, id
LIMIT $8::int;

-- name: match_films
-- Films a title may mean, the closest first, with how close they are.
SELECT film_id, title_zh, title_en,
       CASE WHEN search_text LIKE $2::text THEN 0 WHEN search_text LIKE $3::text THEN 1
            WHEN search_text LIKE $4::text THEN 2 ELSE 3 END AS rank
FROM catalogue.films
WHERE search_text LIKE $4::text OR $1::text <% search_text
ORDER BY rank, year DESC, film_id
LIMIT $5::int;

-- name: list_showtimes
-- A page of showtimes in order of time. A date is a day in the cinema's own zone; since zones reach from
-- -12 to +14 hours, the instants around it bound the index range. Each filter may be null: custom plans
-- drop those, and the planner keeps to custom plans because a generic one would read everything. The place to go
-- on after is never before those bounds: it alone says where the index is read from.
SELECT s.showtime_id, s.starts_at, s.layout_id, s.seat_count,
       f.film_id, f.title_zh, f.title_en, f.year, f.running_time_min, f.genres,
       c.cinema_id, c.name_zh AS cinema_zh, c.name_en AS cinema_en, c.city_zh, c.city_en, c.time_zone,
       r.screen_id, r.name_zh AS screen_zh, r.name_en AS screen_en, r.format
FROM catalogue.showtimes s
JOIN catalogue.screens r USING (screen_id)
JOIN catalogue.cinemas c ON c.cinema_id = s.cinema_id
LEFT JOIN catalogue.films f USING (film_id)
WHERE ($1::text IS NULL OR s.film_id = $1::text)
  AND ($2::text IS NULL OR s.cinema_id = $2::text)
  AND ($3::date IS NULL OR (s.starts_at >= $3::date::timestamp AT TIME ZONE c.time_zone
                            AND s.starts_at < ($3::date + 1)::timestamp AT TIME ZONE c.time_zone))
  AND s.starts_at >= coalesce($3::date::timestamp AT TIME ZONE 'UTC' - interval '14 hours', $4::timestamptz)
  AND s.starts_at < coalesce($3::date::timestamp AT TIME ZONE 'UTC' + interval '36 hours', 'infinity')
  AND (s.starts_at, s.showtime_id) > ($5::timestamptz, $6::text)
ORDER BY s.starts_at, s.showtime_id
LIMIT $7::int;

-- name: find_showtimes
-- Showtimes by id, with what they show and where.
SELECT s.showtime_id, s.starts_at, s.layout_id, s.seat_count,
       f.film_id, f.title_zh, f.title_en, f.year, f.running_time_min, f.genres,
       c.cinema_id, c.name_zh AS cinema_zh, c.name_en AS cinema_en, c.city_zh, c.city_en, c.time_zone,
       r.screen_id, r.name_zh AS screen_zh, r.name_en AS screen_en, r.format
FROM catalogue.showtimes s
JOIN catalogue.screens r USING (screen_id)
JOIN catalogue.cinemas c ON c.cinema_id = s.cinema_id
LEFT JOIN catalogue.films f USING (film_id)
WHERE s.showtime_id = ANY ($1::text[]);

-- name: find_prices
-- Prices of some showtimes, the dearest area first.
SELECT showtime_id, area_id, amount_minor, currency
FROM catalogue.showtime_prices
WHERE showtime_id = ANY ($1::text[])
ORDER BY showtime_id, amount_minor DESC, area_id;
