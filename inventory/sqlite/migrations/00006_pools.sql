-- +goose Up
INSERT INTO documents (name, version, document) VALUES ('pools', 0, '{}');

-- +goose Down
DELETE FROM documents WHERE name = 'pools';
