-- +goose Up
ALTER TABLE sales ADD COLUMN reserved_for TEXT NOT NULL DEFAULT '';
ALTER TABLE sales ADD COLUMN reserved_share REAL NOT NULL DEFAULT 0 CHECK (reserved_share >= 0 AND reserved_share < 1);

-- What operators set while the service runs: a row for each document, there from the start, so that there is always one to
-- lock.
CREATE TABLE documents (
    name     TEXT    NOT NULL PRIMARY KEY,
    version  INTEGER NOT NULL,          -- as in the document; 0: never set
    document TEXT    NOT NULL           -- JSON; names that a reader does not know are ignored
) STRICT;

INSERT INTO documents (name, version, document) VALUES ('limits', 0, '{}');

-- +goose Down
DROP TABLE documents;
ALTER TABLE sales DROP COLUMN reserved_share;
ALTER TABLE sales DROP COLUMN reserved_for;
