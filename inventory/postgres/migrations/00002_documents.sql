-- +goose Up
ALTER TABLE sales
    ADD COLUMN reserved_for   text   NOT NULL DEFAULT '',
    ADD COLUMN reserved_share float8 NOT NULL DEFAULT 0 CHECK (reserved_share >= 0 AND reserved_share < 1);

-- What operators set while the service runs: a row for each document, there from the start, so that there is always one to
-- lock.
CREATE TABLE documents (
    name     text   NOT NULL PRIMARY KEY,
    version  bigint NOT NULL,          -- as in the document; 0: never set
    document text   NOT NULL           -- JSON; names that a reader does not know are ignored
);

INSERT INTO documents (name, version, document) VALUES ('limits', 0, '{}');

-- +goose Down
DROP TABLE documents;
ALTER TABLE sales
    DROP COLUMN reserved_share,
    DROP COLUMN reserved_for;
