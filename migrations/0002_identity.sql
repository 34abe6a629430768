-- Who may call, and the keys that sign and seal.

-- API tokens. The secret is not here: `digest` is its SHA-256 in hex.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    prefix TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    create_time_ms BIGINT NOT NULL,
    expire_time_ms BIGINT,
    revoke_time_ms BIGINT,
    resource_version BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_valid_name ON tokens (name) WHERE revoke_time_ms IS NULL;

-- Keys that proxies are given; `sealed` is the sync resource, sealed.
CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    create_time_ms BIGINT NOT NULL
);

-- Secrets that let one new proxy join, once.
CREATE TABLE join_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    create_time_ms BIGINT NOT NULL,
    expire_time_ms BIGINT NOT NULL,
    spent_time_ms BIGINT,
    spent_by TEXT
);

-- What an enrolled proxy proves itself with.
CREATE TABLE proxy_credentials (
    proxy_id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    create_time_ms BIGINT NOT NULL
);
