-- Times are microseconds since 1970, UTC. "version" is the index of the evidence entry that last changed the row.
-- {{rowid}} and {{clustered}} are the only words that differ between the databases.

-- The log. Its rows are written only together with what they explain.
CREATE TABLE entries (
    idx  {{rowid}},
    body BYTEA NOT NULL
);
CREATE TABLE disclosures (
    idx   BIGINT NOT NULL,
    slot  TEXT   NOT NULL,
    salt  BYTEA  NOT NULL,
    value BYTEA  NOT NULL,
    PRIMARY KEY (idx, slot)
);
CREATE TABLE tiles (
    level BIGINT NOT NULL,
    n     BIGINT NOT NULL,
    data  BYTEA  NOT NULL,
    PRIMARY KEY (level, n)
);
CREATE TABLE head (
    one        BIGINT PRIMARY KEY CHECK (one = 1),
    size       BIGINT NOT NULL,
    time       BIGINT NOT NULL,
    checkpoint BYTEA  NOT NULL
);

-- The authoritative state: a function of the entries.
CREATE TABLE catalog (
    kind    TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, object)
){{clustered}};
CREATE TABLE catalog_version (
    one     BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL,
    bundle  TEXT   NOT NULL
);
CREATE TABLE identities (
    identity TEXT PRIMARY KEY,
    status   TEXT   NOT NULL,
    was      TEXT   NOT NULL, -- the status before
    since    BIGINT NOT NULL, -- time of the entry that set the status
    declared BIGINT NOT NULL, -- 1 while the catalog has it
    away     BIGINT NOT NULL DEFAULT 0, -- until then the person is away
    version  BIGINT NOT NULL
){{clustered}};
CREATE TABLE facts (
    entity      TEXT PRIMARY KEY,
    source      TEXT   NOT NULL,
    observed_at BIGINT NOT NULL,
    slot        TEXT   NOT NULL,
    version     BIGINT NOT NULL
){{clustered}};
CREATE TABLE tasks (
    id         TEXT PRIMARY KEY,
    type       TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    principal  TEXT   NOT NULL, -- empty: none
    trace      TEXT   NOT NULL,
    status     TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    opened_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    heartbeat  BIGINT NOT NULL,
    opened     BIGINT NOT NULL,
    version    BIGINT NOT NULL
){{clustered}};
CREATE INDEX tasks_by_subject ON tasks (subject, status);
CREATE INDEX tasks_unsealed ON tasks (status, expires_at) WHERE status <> 'sealed';
CREATE TABLE task_log (
    task TEXT PRIMARY KEY,
    seq  BIGINT NOT NULL,
    last BIGINT NOT NULL
){{clustered}};
CREATE TABLE task_labels (
    task    TEXT   NOT NULL,
    label   TEXT   NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (task, label)
){{clustered}};
CREATE TABLE decisions (
    id      TEXT PRIMARY KEY,
    version BIGINT NOT NULL
){{clustered}};
CREATE TABLE grants (
    id         TEXT PRIMARY KEY,
    decided    BIGINT NOT NULL, -- index of the decision's entry
    parent     TEXT   NOT NULL,
    task       TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    mode       TEXT   NOT NULL,
    depth      BIGINT NOT NULL,
    status     TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    granted_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    max_uses   BIGINT NOT NULL,
    uses       BIGINT NOT NULL,
    version    BIGINT NOT NULL
){{clustered}};
CREATE INDEX grants_by_task ON grants (task, version);
CREATE INDEX grants_lent ON grants (subject) WHERE parent <> '';
CREATE TABLE approvals (
    id             TEXT PRIMARY KEY,
    kind           TEXT   NOT NULL, -- empty: a grant can come of it
    decided        BIGINT NOT NULL,
    task           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    asker          TEXT   NOT NULL, -- the subject, or who lends to it
    status         TEXT   NOT NULL,
    asked_at       BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    approved_until BIGINT NOT NULL,
    version        BIGINT NOT NULL
){{clustered}};
CREATE INDEX approvals_pending ON approvals (asker) WHERE status = 'pending';
CREATE TABLE answers (
    approval TEXT   NOT NULL,
    person   TEXT   NOT NULL,
    approve  BIGINT NOT NULL,
    ttl      BIGINT NOT NULL,
    uses     BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    card     TEXT   NOT NULL, -- digest of what the person was shown
    shown    BIGINT NOT NULL, -- when
    surface  TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    PRIMARY KEY (approval, person)
){{clustered}};
CREATE TABLE comments (
    approval TEXT   NOT NULL,
    version  BIGINT NOT NULL, -- of the entry that the text lies beside
    person   TEXT   NOT NULL, -- or the agent that asked
    at       BIGINT NOT NULL,
    PRIMARY KEY (approval, version)
){{clustered}};
CREATE TABLE usage (
    subject TEXT   NOT NULL,
    counter TEXT   NOT NULL,
    bucket  BIGINT NOT NULL,
    total   BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (subject, counter, bucket)
){{clustered}};
CREATE TABLE touched (
    subject TEXT   NOT NULL,
    label   TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (subject, label)
){{clustered}};
CREATE TABLE precedents (
    subject   TEXT   NOT NULL,
    action    TEXT   NOT NULL,
    resource  TEXT   NOT NULL, -- type
    task_type TEXT   NOT NULL,
    approvals BIGINT NOT NULL,
    denials   BIGINT NOT NULL,
    reversals BIGINT NOT NULL,
    version   BIGINT NOT NULL,
    PRIMARY KEY (subject, action, resource, task_type)
){{clustered}};

-- Content-addressed: a bundle is its hash, so it proves itself.
CREATE TABLE bundles (
    hash    TEXT PRIMARY KEY,
    content BYTEA NOT NULL
);

-- Without authority: what is lost here costs convenience, never proof.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
CREATE TABLE heartbeats (
    task TEXT PRIMARY KEY,
    at   BIGINT NOT NULL
){{clustered}};
CREATE TABLE strangers (
    id         TEXT PRIMARY KEY, -- SHA-256 of issuer and subject
    issuer     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    times      BIGINT NOT NULL
){{clustered}};
CREATE INDEX strangers_by_last_seen ON strangers (last_seen, id);
CREATE TABLE idempotency (
    subject TEXT   NOT NULL,
    key     TEXT   NOT NULL,
    digest  BYTEA  NOT NULL,
    result  TEXT   NOT NULL,
    expires BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (subject, key)
){{clustered}};
CREATE INDEX idempotency_by_expiry ON idempotency (expires);
