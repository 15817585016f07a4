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
    accepted boolean NOT NULL DEFAULT false, -- what was sent last was answered with "received"
    status text, -- the ticket's, as last seen
    why text, -- a sentence, where it is not done
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (oms_id, ticket_number)
);
CREATE INDEX IF NOT EXISTS fleet_tickets_by_state ON fleet_tickets (state, changed_at);

-- The calls a second that all workers together may make: one number for all, because each counts by its own.
CREATE TABLE IF NOT EXISTS fleet_limit (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    rate integer NOT NULL
);
