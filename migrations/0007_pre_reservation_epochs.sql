-- An epoch for each partition, so that what is lost on one server closes nothing on the others. `server` is who
-- served the partition when its maps were last made, as that server named itself; opened_at is empty while
-- they are being made.
CREATE TABLE reservation.epochs (
  partition smallint PRIMARY KEY CHECK (partition BETWEEN 0 AND 63),
  epoch     bigint NOT NULL,
  server    text,
  reason    text NOT NULL,
  raised_at timestamptz NOT NULL DEFAULT now(),
  opened_at timestamptz
);
INSERT INTO reservation.epochs (partition, epoch, reason, raised_at)
SELECT partition, e.epoch, e.reason, e.raised_at
FROM reservation.epoch e, generate_series(0, 63) AS partition;
DROP TABLE reservation.epoch;

-- Servers that were replaced. One that comes back as it was has the data of then: it is not believed.
CREATE TABLE reservation.former_servers (
  partition   smallint NOT NULL REFERENCES reservation.epochs,
  server      text NOT NULL,
  replaced_in bigint NOT NULL,  -- the epoch
  replaced_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, server)
);
