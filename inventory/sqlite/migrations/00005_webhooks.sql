-- +goose Up
-- Which database events come from: their numbers alone would not tell two shops apart. One row.
CREATE TABLE event_source (
    id TEXT NOT NULL PRIMARY KEY
) STRICT;

INSERT INTO event_source (id) VALUES (lower(hex(randomblob(6))));

CREATE TABLE webhooks (
    name          TEXT    NOT NULL PRIMARY KEY,
    address       TEXT    NOT NULL,    -- scheme, host and port: the rest of a URL may be a secret
    seen_at       INTEGER NOT NULL,
    failing_since INTEGER,             -- NULL: it is not
    last_error    TEXT    NOT NULL DEFAULT '',
    disabled      INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

CREATE TABLE webhook_deliveries (
    endpoint   TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    at         INTEGER NOT NULL,       -- of the event
    state      TEXT    NOT NULL CHECK (state IN ('waiting', 'again', 'dead')),
    attempts   INTEGER NOT NULL,
    first_at   INTEGER,                -- NULL: not tried yet
    next_at    INTEGER,                -- NULL: it is not waiting for a time
    last_error TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    PRIMARY KEY (endpoint, seq)
) STRICT;

CREATE INDEX webhook_deliveries_state ON webhook_deliveries (endpoint, state, seq);

-- +goose Down
DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
DROP TABLE event_source;
