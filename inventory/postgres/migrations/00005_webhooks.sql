-- +goose Up
-- Which database events come from: their numbers alone would not tell two shops apart. One row.
CREATE TABLE event_source (
    id text NOT NULL PRIMARY KEY
);

INSERT INTO event_source (id) VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 1, 12));

CREATE TABLE webhooks (
    name          text        NOT NULL PRIMARY KEY,
    address       text        NOT NULL,    -- scheme, host and port: the rest of a URL may be a secret
    seen_at       timestamptz NOT NULL,
    failing_since timestamptz,             -- NULL: it is not
    last_error    text        NOT NULL DEFAULT '',
    disabled      boolean     NOT NULL DEFAULT false
);

CREATE TABLE webhook_deliveries (
    endpoint   text    NOT NULL,
    seq        bigint  NOT NULL,
    key        text    NOT NULL,
    type       text    NOT NULL,
    at         timestamptz NOT NULL,            -- of the event
    state      text    NOT NULL CHECK (state IN ('waiting', 'again', 'dead')),
    attempts   integer NOT NULL,
    first_at   timestamptz,                -- NULL: not tried yet
    next_at    timestamptz,                -- NULL: it is not waiting for a time
    last_error text    NOT NULL,
    body       text    NOT NULL,
    PRIMARY KEY (endpoint, seq)
);

CREATE INDEX webhook_deliveries_state ON webhook_deliveries (endpoint, state, seq);

-- +goose Down
DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
DROP TABLE event_source;
