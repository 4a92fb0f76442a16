-- +goose Up
ALTER TABLE sales
    ADD COLUMN reserved_for   text   NOT NULL DEFAULT '',
    ADD COLUMN reserved_share float8 NOT NULL DEFAULT 0 CHECK (reserved_share >= 0 AND reserved_share < 1);

-- What operators set while the service runs: one row, there from the start, so that there is always one to lock.
CREATE TABLE limits (
    id       integer NOT NULL PRIMARY KEY CHECK (id = 1),
    version  bigint  NOT NULL,         -- as in the document; 0: never set
    document text    NOT NULL          -- JSON; names that a reader does not know are ignored
);

INSERT INTO limits (id, version, document) VALUES (1, 0, '{}');

-- +goose Down
DROP TABLE limits;
ALTER TABLE sales
    DROP COLUMN reserved_share,
    DROP COLUMN reserved_for;
