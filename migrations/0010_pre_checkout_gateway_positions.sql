-- How far each gateway's books were compared with ours (docs/adr/0027). Written by the completers when everything up
-- to there stands here too, so it goes back with the payments when PostgreSQL is set back, and what came after is
-- compared again. `whole_for` names the server that was once compared to the end: whoever answers in its place may
-- be older.
CREATE TABLE checkout.gateway_positions (
  gateway     text PRIMARY KEY,
  cursor      text NOT NULL,
  whole_for   text,
  compared_at timestamptz NOT NULL DEFAULT now()
);

-- Which PostgreSQL this is: whoever puts older data in the place of newer ones starts a server or makes a database.
CREATE FUNCTION checkout.this_server() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT oid || ' ' || extract(epoch FROM pg_postmaster_start_time())
  FROM pg_database WHERE datname = current_database()
$$;
