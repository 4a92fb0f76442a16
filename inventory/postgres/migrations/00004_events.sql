-- +goose Up
-- What every transaction did, in the order of the commits. Rows are added at one end and dropped at the other.
CREATE TABLE events (
    seq      bigint      NOT NULL PRIMARY KEY,
    at       timestamptz NOT NULL,
    later    boolean     NOT NULL,    -- not the first event of its order
    order_id uuid,                     -- NULL: a sale's event
    body     text        NOT NULL      -- the rest of the event, as JSON
);
-- An order's first event has the time at which it was settled: an index that only grows at its end costs a batch little.
CREATE INDEX events_at ON events (at);
-- Its later events.
CREATE INDEX events_later ON events (order_id) WHERE later;

-- One row. All numbers after forgotten, up to newest, are there. A transaction moves newest as the last thing before it
-- commits, and so numbers come in the order of the commits.
CREATE TABLE events_head (
    id        integer NOT NULL PRIMARY KEY CHECK (id = 1),
    newest    bigint  NOT NULL CHECK (newest >= forgotten),
    forgotten bigint  NOT NULL CHECK (forgotten >= 0)
) WITH (fillfactor = 10);

INSERT INTO events_head (id, newest, forgotten) VALUES (1, 0, 0);

CREATE TABLE event_readers (
    name     text        NOT NULL PRIMARY KEY,
    owner    text        NOT NULL,
    until    timestamptz NOT NULL,     -- the end of the owner's lease
    position bigint      NOT NULL CHECK (position >= 0)
) WITH (fillfactor = 10);

-- What was announced last of a sale. What was before there were events is not announced any more.
ALTER TABLE sales ADD COLUMN phase text NOT NULL DEFAULT 'planned' CHECK (phase IN ('planned', 'open', 'sold_out', 'ended'));
UPDATE sales SET phase = CASE
    WHEN ends_at <= statement_timestamp() THEN 'ended'
    WHEN starts_at > statement_timestamp() THEN 'planned'
    WHEN free = 0 AND held = 0 THEN 'sold_out'
    ELSE 'open' END;

-- +goose Down
ALTER TABLE sales DROP COLUMN phase;
DROP TABLE event_readers;
DROP TABLE events_head;
DROP TABLE events;
