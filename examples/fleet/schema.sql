-- One row a ticket, for good: what is known of it, written before each send and after it.
CREATE TABLE IF NOT EXISTS fleet_tickets (
    oms_id integer NOT NULL,
    ticket_number bigint NOT NULL,
    account_id bigint NOT NULL,
    request_code text NOT NULL,
    state text NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'sent', 'done', 'refused', 'unknown')),
    mark integer NOT NULL DEFAULT 0, -- how often it was marked as sent; whoever marked it last may write
    sends integer NOT NULL DEFAULT 0, -- of these, how often it was sent, or may have been
    most_sends integer NOT NULL DEFAULT 5, -- from here on a person decides
    sent_at timestamptz, -- when it was marked last
    leased_until timestamptz, -- until when the cancel may be written
    unread_since timestamptz, -- when it could not be read for the first time, where it could not be read last
    accepted boolean NOT NULL DEFAULT false, -- what was sent last was answered with "received"
    status text, -- the ticket's, as last seen
    why text, -- a sentence, where it is not done
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (oms_id, ticket_number)
);
CREATE INDEX IF NOT EXISTS fleet_tickets_by_state ON fleet_tickets (state, changed_at);

-- One row for each worker at work: all of them have to agree on the calls a second, because each counts by its own
-- number, and on when one is dead, because the others take its jobs.
CREATE TABLE IF NOT EXISTS fleet_workers (
    worker uuid PRIMARY KEY,
    rate integer NOT NULL, -- calls a second of all workers together
    heartbeat double precision NOT NULL, -- seconds between two signs of life
    alive_until timestamptz NOT NULL -- without another sign of life
);
