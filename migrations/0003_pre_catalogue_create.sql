-- Needs pg_trgm (contrib, trusted since PostgreSQL 13: the owner of the database may create it).
CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;

CREATE SCHEMA catalogue;

-- Written by programming and the demo seed. search_text is every name in folded form, one a line (see
-- catalogue.domain.search_text), so that one index answers Chinese, English, pinyin and initials.
CREATE TABLE catalogue.films (
  film_id          text PRIMARY KEY,
  title_zh         text NOT NULL,
  title_en         text NOT NULL,
  title_pinyin     text NOT NULL,
  title_initials   text NOT NULL,
  year             int NOT NULL CHECK (year BETWEEN 1888 AND 2200),
  release_date     date,
  running_time_min int NOT NULL CHECK (running_time_min BETWEEN 1 AND 1000),
  genres           text[] NOT NULL,
  people           jsonb NOT NULL,
  synopsis_zh      text NOT NULL DEFAULT '',
  synopsis_en      text NOT NULL DEFAULT '',
  search_text      text NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT films_have_a_title CHECK (title_zh <> '' OR title_en <> '')
);
CREATE INDEX films_newest ON catalogue.films (year, film_id);
CREATE INDEX films_search ON catalogue.films USING gin (search_text gin_trgm_ops);

-- Written by programming and the demo seed. The time zone decides which showtimes are "today".
CREATE TABLE catalogue.cinemas (
  cinema_id   text PRIMARY KEY,
  name_zh     text NOT NULL,
  name_en     text NOT NULL,
  city_zh     text NOT NULL,
  city_en     text NOT NULL,
  address_zh  text NOT NULL,
  address_en  text NOT NULL,
  time_zone   text NOT NULL,
  search_text text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cinemas_by_name ON catalogue.cinemas (name_en, cinema_id);
CREATE INDEX cinemas_search ON catalogue.cinemas USING gin (search_text gin_trgm_ops);

-- Written by programming and the demo seed. layout_id belongs to reservation; it is a hash of the
-- geometry, so seat_count can never disagree with it.
CREATE TABLE catalogue.screens (
  screen_id  text PRIMARY KEY,
  cinema_id  text NOT NULL REFERENCES catalogue.cinemas,
  position   int NOT NULL,
  name_zh    text NOT NULL,
  name_en    text NOT NULL,
  format     text NOT NULL
             CONSTRAINT screens_format_known CHECK
             (format IN ('standard', 'large', 'imax', 'vip', 'premiere', 'stadium')),
  layout_id  text NOT NULL,
  seat_count int NOT NULL CHECK (seat_count > 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (screen_id, cinema_id)
);
CREATE INDEX screens_of_cinema ON catalogue.screens (cinema_id, position, screen_id);

-- Written by programming, showtime add and the demo seed. The layout is frozen here: a screen that is
-- rebuilt later does not move the seats of tickets already sold. cinema_id repeats the screen's, held
-- true by the foreign key, so that a cinema's day is one index range.
CREATE TABLE catalogue.showtimes (
  showtime_id text PRIMARY KEY,
  film_id     text REFERENCES catalogue.films,
  screen_id   text NOT NULL,
  cinema_id   text NOT NULL,
  layout_id   text NOT NULL,
  seat_count  int NOT NULL CHECK (seat_count > 0),
  starts_at   timestamptz NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (screen_id, cinema_id) REFERENCES catalogue.screens (screen_id, cinema_id)
);
CREATE INDEX showtimes_by_time ON catalogue.showtimes (starts_at, showtime_id);
CREATE INDEX showtimes_of_cinema ON catalogue.showtimes (cinema_id, starts_at, showtime_id);
CREATE INDEX showtimes_of_film ON catalogue.showtimes (film_id, starts_at, showtime_id);
CREATE INDEX showtimes_of_screen ON catalogue.showtimes (screen_id);

-- Written together with the showtime and never again: what a fan was shown is what a fan pays, and
-- every process may remember prices for good.
CREATE TABLE catalogue.showtime_prices (
  showtime_id  text NOT NULL REFERENCES catalogue.showtimes,
  area_id      text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  PRIMARY KEY (showtime_id, area_id)
);

CREATE FUNCTION catalogue.prices_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the prices of a showtime never change' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER showtime_prices_never_change BEFORE UPDATE ON catalogue.showtime_prices
  FOR EACH STATEMENT EXECUTE FUNCTION catalogue.prices_never_change();
