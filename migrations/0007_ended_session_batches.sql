-- Ended sessions are told to proxies some together, those of one batch.
ALTER TABLE ended_sessions ADD COLUMN batch BIGINT NOT NULL DEFAULT 0;
CREATE INDEX ended_sessions_batch ON ended_sessions (batch, expire_time_ms);
