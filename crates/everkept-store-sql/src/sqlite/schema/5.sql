-- What each turn cost, by model; an empty text is a model that nobody named.
CREATE TABLE usage (
    log         BLOB    NOT NULL,
    place       INTEGER NOT NULL,
    model       TEXT    NOT NULL,
    turn        BLOB    NOT NULL,
    agent       TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    input       INTEGER,
    output      INTEGER,
    reasoning   INTEGER,
    cache_read  INTEGER,
    cache_write INTEGER,
    cost        INTEGER,
    priced_on   TEXT,
    PRIMARY KEY (log, place, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_time ON usage (at);

-- Until now each turn had one sum.
INSERT INTO usage
    SELECT log, place, COALESCE(json_extract(turn.text, '$.turn.model'), ''), id, json_extract(turn.text, '$.turn.agent'),
        COALESCE(json_extract(turn.text, '$.turn.started_at'), json_extract(turn.text, '$.turn.queued_at')),
        MIN(json_extract(turn.text, '$.turn.usage.input_tokens'), 1000000000000),
        MIN(json_extract(turn.text, '$.turn.usage.output_tokens'), 1000000000000),
        MIN(json_extract(turn.text, '$.turn.usage.reasoning_tokens'), 1000000000000),
        MIN(json_extract(turn.text, '$.turn.usage.cache_read_tokens'), 1000000000000),
        MIN(json_extract(turn.text, '$.turn.usage.cache_write_tokens'), 1000000000000),
        MIN(json_extract(turn.text, '$.turn.usage.cost_usd_micros'), 1000000000000),
        NULL
    FROM (SELECT log, place, id, CAST(record AS TEXT) AS text FROM turn) AS turn
    WHERE json_extract(turn.text, '$.turn.usage') IS NOT NULL;
