-- When a turn was given up, as long as nobody has taken it up since.
ALTER TABLE turn ADD COLUMN letter_at INTEGER;
CREATE INDEX turn_by_letter ON turn (letter_at, id) WHERE letter_at IS NOT NULL;

-- One row for each agent and model; an empty model is the agent's own.
CREATE TABLE breaker (
    agent   TEXT    NOT NULL,
    model   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    record  BLOB    NOT NULL,
    PRIMARY KEY (agent, model)
) STRICT, WITHOUT ROWID;
