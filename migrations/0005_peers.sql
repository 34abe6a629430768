-- What lets proxies speak with each other.

-- The authority that signs their certificates; `sealed` is its key, sealed.
CREATE TABLE authorities (
    id TEXT NOT NULL PRIMARY KEY,
    certificate TEXT NOT NULL,
    sealed TEXT NOT NULL,
    create_time_ms BIGINT NOT NULL
);

-- Proxies that others may reach. Written when one of these columns changes, never on a beat.
-- `stdio` is `host` or `none`.
CREATE TABLE peers (
    id TEXT NOT NULL PRIMARY KEY,
    peer_address TEXT NOT NULL,
    stdio TEXT NOT NULL,
    update_time_ms BIGINT NOT NULL
);

-- Sessions that their clients have deleted, until their ids expire.
CREATE TABLE ended_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    expire_time_ms BIGINT NOT NULL
);
CREATE INDEX ended_sessions_expire_time_ms ON ended_sessions (expire_time_ms);
