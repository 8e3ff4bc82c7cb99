"""How each kind of store is spoken to: addresses, sessions, named errors. Attempts and judges nothing."""
