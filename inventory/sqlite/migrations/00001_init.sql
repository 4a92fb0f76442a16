-- Times are microseconds since 1970 UTC, durations nanoseconds; both NULL or 0 as the column says.

-- +goose Up
CREATE TABLE sales (
    id             TEXT    NOT NULL PRIMARY KEY,
    sku            TEXT    NOT NULL,
    stock          INTEGER NOT NULL CHECK (stock >= 0),
    topups         INTEGER NOT NULL,
    free           INTEGER NOT NULL CHECK (free >= 0),
    held           INTEGER NOT NULL CHECK (held >= 0),
    sold           INTEGER NOT NULL CHECK (sold >= 0),
    per_user_limit INTEGER NOT NULL CHECK (per_user_limit >= 1),
    starts_at      INTEGER,          -- NULL: already begun
    ends_at        INTEGER,          -- NULL: open until ended by hand
    payment_window INTEGER NOT NULL CHECK (payment_window >= 0),
    max_age        INTEGER NOT NULL CHECK (max_age >= 0),
    checkout_url   TEXT    NOT NULL,
    over_admission REAL    NOT NULL,
    paused         INTEGER NOT NULL CHECK (paused IN (0, 1)),
    version        INTEGER NOT NULL CHECK (version >= 1),
    CONSTRAINT sales_balance CHECK (stock + topups = free + held + sold) -- P1, P8
) STRICT;

CREATE TABLE orders (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    sale        TEXT    NOT NULL,    -- may be unknown: such an order is refused, and remembered
    buyer       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    quantity    INTEGER NOT NULL,
    attributes  TEXT    NOT NULL,
    accepted_at INTEGER,             -- NULL: the door did not know the store's time
    state       TEXT    NOT NULL CHECK (state IN ('held', 'paid', 'expired', 'cancelled', 'rejected', 'failed')),
    reason      TEXT    NOT NULL,
    version     INTEGER NOT NULL CHECK (version >= 2),
    pay_by      INTEGER,
    settled_at  INTEGER NOT NULL,
    payment_ref TEXT    NOT NULL DEFAULT '',
    CONSTRAINT orders_quantity CHECK (quantity BETWEEN 1 AND 10000 OR state IN ('rejected', 'failed')),
    CONSTRAINT orders_reason CHECK ((state = 'rejected') = (reason <> '')),
    CONSTRAINT orders_pay_by CHECK (state <> 'held' OR pay_by IS NOT NULL)
) STRICT;

-- What a buyer owns (P5), answered from the index alone.
CREATE INDEX orders_owned ON orders (sale, buyer, quantity) WHERE state IN ('held', 'paid');
-- What the sweep looks for (P6).
CREATE INDEX orders_due ON orders (pay_by) WHERE state = 'held';

CREATE TABLE dead_letters (
    message  TEXT    NOT NULL PRIMARY KEY,
    body     BLOB    NOT NULL,
    order_id BLOB,                   -- NULL: the body could not be read
    attempts INTEGER NOT NULL,
    error    TEXT    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

CREATE TABLE refunds_due (
    order_id    BLOB    NOT NULL REFERENCES orders (id),
    payment_ref TEXT    NOT NULL,
    reason      TEXT    NOT NULL CHECK (reason IN ('too_late', 'already_paid')),
    at          INTEGER NOT NULL,
    PRIMARY KEY (order_id, payment_ref)
) STRICT;

-- For outside checkers: these columns are a published contract.
CREATE VIEW sluice_orders (id, sale, buyer, key, quantity, state, reason, version, settled_at) AS
SELECT lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' ||
             substr(hex(id), 17, 4) || '-' || substr(hex(id), 21, 12)),
       sale, buyer, key, quantity, state, reason, version,
       strftime('%Y-%m-%dT%H:%M:%S', settled_at / 1000000, 'unixepoch') || printf('.%06dZ', settled_at % 1000000)
FROM orders;

CREATE VIEW sluice_sales (id, stock, topups, free, held, sold, version) AS
SELECT id, stock, topups, free, held, sold, version
FROM sales;

-- +goose Down
DROP VIEW sluice_sales;
DROP VIEW sluice_orders;
DROP TABLE refunds_due;
DROP TABLE dead_letters;
DROP TABLE orders;
DROP TABLE sales;
