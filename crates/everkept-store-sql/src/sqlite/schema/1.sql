-- Payloads are BLOBs: what an agent said need not be text. Keys begin with the session or its log.

CREATE TABLE log (
    session  BLOB    NOT NULL PRIMARY KEY,
    head     INTEGER NOT NULL,
    fence    INTEGER NOT NULL,
    chain    BLOB    NOT NULL,
    fork_of  BLOB,
    fork_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A packed row holds `count` events and is keyed by its last one.
CREATE TABLE event (
    log     BLOB    NOT NULL,
    seq     INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    turn    BLOB,
    context INTEGER NOT NULL,
    sum     INTEGER NOT NULL,
    chain   BLOB    NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- With a rowid: its rows are long and often replaced, and would spill over in an index.
CREATE TABLE session (
    id         BLOB    NOT NULL PRIMARY KEY,
    resource   TEXT,
    thread     TEXT,
    agent      TEXT,
    state      TEXT    NOT NULL,
    archived   INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    parent     BLOB,
    record     BLOB    NOT NULL
) STRICT;
CREATE INDEX session_by_activity ON session (deleted, updated_at, id);
CREATE INDEX session_by_resource ON session (resource, deleted, updated_at, id);
CREATE INDEX session_by_parent ON session (parent, created_at, id) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX session_by_thread ON session (resource, thread)
    WHERE resource IS NOT NULL AND thread IS NOT NULL AND deleted = 0;

CREATE TABLE turn (
    log       BLOB    NOT NULL,
    place     INTEGER NOT NULL,
    id        BLOB    NOT NULL,
    ended_seq INTEGER,
    record    BLOB    NOT NULL,
    PRIMARY KEY (log, place)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX turn_by_id ON turn (id);

CREATE TABLE message (
    log      BLOB    NOT NULL,
    place    INTEGER NOT NULL,
    id       BLOB    NOT NULL,
    turn     BLOB,
    role     TEXT    NOT NULL,
    last_seq INTEGER,
    PRIMARY KEY (log, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE question (
    session  BLOB    NOT NULL,
    place    INTEGER NOT NULL,
    id       BLOB    NOT NULL,
    state    TEXT    NOT NULL,
    asked_at INTEGER NOT NULL,
    record   BLOB    NOT NULL,
    PRIMARY KEY (session, place)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX question_by_id ON question (id);
CREATE INDEX question_open ON question (asked_at, session, place) WHERE state = 'open';

-- No row: nothing is owed.
CREATE TABLE owed (
    session BLOB NOT NULL PRIMARY KEY,
    effects BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE answer (
    principal  TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    status     INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    expires_at INTEGER,
    session    BLOB,
    PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_by_expiry ON answer (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE token (
    id          BLOB    NOT NULL PRIMARY KEY,
    secret_hash BLOB    NOT NULL,
    kind        TEXT    NOT NULL,
    name        TEXT,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX token_by_secret ON token (secret_hash);

-- `place` is the number of the row's first byte in what the agent sent during the turn.
CREATE TABLE raw (
    session BLOB    NOT NULL,
    turn    BLOB    NOT NULL,
    place   INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    bytes   BLOB    NOT NULL,
    PRIMARY KEY (session, turn, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    id    BLOB NOT NULL PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE blob_session (
    blob    BLOB NOT NULL,
    session BLOB NOT NULL,
    PRIMARY KEY (blob, session)
) STRICT, WITHOUT ROWID;

CREATE TABLE boot (
    number INTEGER NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT;

-- One row: the latest wall time there was.
CREATE TABLE wall (
    id INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
INSERT INTO wall (id, at) VALUES (1, 0);

-- Titles (place 0) and messages that the full-text index does not show yet, oldest first; one may wait twice.
CREATE TABLE to_index (
    id    INTEGER NOT NULL PRIMARY KEY,
    log   BLOB    NOT NULL,
    place INTEGER NOT NULL
) STRICT;

CREATE TABLE search_text (
    id    INTEGER NOT NULL PRIMARY KEY,
    log   BLOB    NOT NULL,
    place INTEGER NOT NULL,
    UNIQUE (log, place)
) STRICT;
CREATE VIRTUAL TABLE search USING fts5 (
    text,
    content = '',
    contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2'
);
