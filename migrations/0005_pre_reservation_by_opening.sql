-- Workers make ready what opens next: every two seconds each asks for the sales nearest their opening.
CREATE INDEX inventories_by_opening ON reservation.inventories (opens_at) WHERE phase <> 'closed';
