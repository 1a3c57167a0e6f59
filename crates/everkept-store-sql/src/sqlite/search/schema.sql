-- How far each log is indexed: `seen` is the place of the last message that was looked at, `open` those before it that
-- had no end yet, and `chain` the log's hash after event `head`, when it was looked at whole.
CREATE TABLE indexed (
    number INTEGER NOT NULL PRIMARY KEY,
    log    BLOB    NOT NULL UNIQUE,
    head   INTEGER NOT NULL,
    chain  BLOB,
    seen   INTEGER NOT NULL,
    open   BLOB    NOT NULL,
    title  TEXT    NOT NULL
) STRICT;

-- A row's id is the log's number and the message's place in it (0: the title), see `PLACE_BITS`.
CREATE VIRTUAL TABLE search USING fts5 (
    text,
    content = '',
    contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2'
);
