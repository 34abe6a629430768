-- Running and former proxies, as they last reported. What is connected right
-- now is known by the control plane that holds the stream; others see this.

CREATE TABLE proxies (
    id TEXT NOT NULL PRIMARY KEY,
    advertise_address TEXT NOT NULL,
    version TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    boot_epoch BIGINT NOT NULL,
    applied_revision BIGINT NOT NULL,
    apply_ms BIGINT NOT NULL,
    -- The position that it refused in this life, with the reasons.
    rejected_epoch TEXT,
    rejected_revision BIGINT,
    rejected_root TEXT,
    rejected_errors TEXT NOT NULL,
    -- Renewed while a stream is open; 0 when it was closed.
    connected_until_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL
);
