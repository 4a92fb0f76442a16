-- +goose Up
-- How long after its deadline a hold is kept.
ALTER TABLE sales ADD COLUMN payment_grace INTEGER NOT NULL DEFAULT 0 CHECK (payment_grace >= 0);

-- When a hold ends: pay_by, which is what the buyer is told, and the grace. Every hold has one.
ALTER TABLE orders ADD COLUMN release_at INTEGER CHECK (release_at >= pay_by);
-- The failed order that this one was made from.
ALTER TABLE orders ADD COLUMN replay_of BLOB;
UPDATE orders SET release_at = pay_by WHERE pay_by IS NOT NULL;

-- What the sweep looks for, sale by sale (P6), and when the first hold of a sale ends.
DROP INDEX orders_due;
CREATE INDEX orders_due ON orders (sale, release_at) WHERE state = 'held';
-- What a buyer owns, answered from the index alone (P5), and all orders of a buyer.
DROP INDEX orders_owned;
CREATE INDEX orders_owned ON orders (buyer, sale, state, quantity);

-- Letters and refunds get numbers, which are never given out twice.
CREATE TABLE letters (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    message     TEXT    NOT NULL UNIQUE,
    body        BLOB    NOT NULL,
    order_id    BLOB,                -- NULL: the body could not be read
    attempts    INTEGER NOT NULL,
    error       TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    replayed_as BLOB                 -- NULL: not replayed
) STRICT;
INSERT INTO letters (message, body, order_id, attempts, error, at)
SELECT message, body, order_id, attempts, error, at FROM dead_letters ORDER BY at;
DROP TABLE dead_letters;
ALTER TABLE letters RENAME TO dead_letters;

CREATE TABLE refunds (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    order_id    BLOB    NOT NULL REFERENCES orders (id),
    payment_ref TEXT    NOT NULL,
    reason      TEXT    NOT NULL CHECK (reason IN ('too_late', 'already_paid')),
    at          INTEGER NOT NULL,
    given_at    INTEGER,             -- NULL: still due
    UNIQUE (order_id, payment_ref)
) STRICT;
INSERT INTO refunds (order_id, payment_ref, reason, at)
SELECT order_id, payment_ref, reason, at FROM refunds_due ORDER BY at;
DROP TABLE refunds_due;
ALTER TABLE refunds RENAME TO refunds_due;
CREATE INDEX refunds_open ON refunds_due (id) WHERE given_at IS NULL;

-- The latest time of the store that was written down; it is at most a second behind.
CREATE TABLE clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO clock (id, at) VALUES (1, 0);

-- +goose Down
DROP TABLE clock;
CREATE TABLE refunds (
    order_id    BLOB    NOT NULL REFERENCES orders (id),
    payment_ref TEXT    NOT NULL,
    reason      TEXT    NOT NULL CHECK (reason IN ('too_late', 'already_paid')),
    at          INTEGER NOT NULL,
    PRIMARY KEY (order_id, payment_ref)
) STRICT;
INSERT INTO refunds SELECT order_id, payment_ref, reason, at FROM refunds_due;
DROP TABLE refunds_due;
ALTER TABLE refunds RENAME TO refunds_due;
CREATE TABLE letters (
    message  TEXT    NOT NULL PRIMARY KEY,
    body     BLOB    NOT NULL,
    order_id BLOB,
    attempts INTEGER NOT NULL,
    error    TEXT    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
INSERT INTO letters SELECT message, body, order_id, attempts, error, at FROM dead_letters;
DROP TABLE dead_letters;
ALTER TABLE letters RENAME TO dead_letters;
DROP INDEX orders_owned;
CREATE INDEX orders_owned ON orders (sale, buyer, quantity) WHERE state IN ('held', 'paid');
DROP INDEX orders_due;
CREATE INDEX orders_due ON orders (pay_by) WHERE state = 'held';
ALTER TABLE orders DROP COLUMN replay_of;
ALTER TABLE orders DROP COLUMN release_at;
ALTER TABLE sales DROP COLUMN payment_grace;
