-- +goose Up
-- What every transaction did, in the order of the commits. Rows are added at one end and dropped at the other.
CREATE TABLE events (
    seq      INTEGER NOT NULL PRIMARY KEY,
    at       INTEGER NOT NULL,
    later    INTEGER NOT NULL,         -- 1: not the first event of its order
    order_id BLOB,                     -- NULL: a sale's event
    body     TEXT    NOT NULL          -- the rest of the event, as JSON
) STRICT;
-- An order's first event has the time at which it was settled: an index that only grows at its end costs a batch little.
CREATE INDEX events_at ON events (at);
-- Its later events.
CREATE INDEX events_later ON events (order_id) WHERE later = 1;

-- One row. All numbers after forgotten, up to newest, are there.
CREATE TABLE events_head (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    newest    INTEGER NOT NULL CHECK (newest >= forgotten),
    forgotten INTEGER NOT NULL CHECK (forgotten >= 0)
) STRICT;

INSERT INTO events_head (id, newest, forgotten) VALUES (1, 0, 0);

CREATE TABLE event_readers (
    name     TEXT    NOT NULL PRIMARY KEY,
    owner    TEXT    NOT NULL,
    until    INTEGER NOT NULL,         -- the end of the owner's lease
    position INTEGER NOT NULL CHECK (position >= 0)
) STRICT;

-- What was announced last of a sale. What was before there were events is not announced any more.
ALTER TABLE sales ADD COLUMN phase TEXT NOT NULL DEFAULT 'planned' CHECK (phase IN ('planned', 'open', 'sold_out', 'ended'));
UPDATE sales SET phase = CASE
    WHEN ends_at <= unixepoch() * 1000000 THEN 'ended'
    WHEN starts_at > unixepoch() * 1000000 THEN 'planned'
    WHEN free = 0 AND held = 0 THEN 'sold_out'
    ELSE 'open' END;

-- +goose Down
ALTER TABLE sales DROP COLUMN phase;
DROP TABLE event_readers;
DROP TABLE events_head;
DROP TABLE events;
