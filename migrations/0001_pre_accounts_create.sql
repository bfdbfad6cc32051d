-- Accounts: who people are and what they sign in with.
-- Written by the accounts context only. Other contexts keep account ids and ask no questions here.

CREATE SCHEMA accounts;

-- One row a person (or a rehearsal's made-up person). Written by accounts at registration, and at
-- sign-in when the hash parameters were raised. Guards the promise that a password is never at hand
-- in readable form: only an argon2id hash, or the word that no password verifies against, gets in.
CREATE TABLE accounts.accounts (
  account_id    text        NOT NULL,
  display_name  text        NOT NULL,
  password_hash text        NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT accounts_pkey PRIMARY KEY (account_id),
  CONSTRAINT accounts_id_shape CHECK (account_id ~ '^acc_[0-9a-hjkmnp-tv-z]{26}$'),
  CONSTRAINT accounts_display_name_length CHECK (char_length(display_name) BETWEEN 1 AND 1000),
  CONSTRAINT accounts_password_hash_form CHECK (password_hash LIKE '$argon2id$%' OR password_hash = 'unusable')
);

-- One row a login; an account may have one of each kind. Written by accounts at registration. Guards
-- the promise that a login belongs to one account: `login` is its normal form, and the primary key
-- decides between two registrations that arrive at once. `address` is the form to send messages to.
-- Kind `name` is for load tools and rehearsals: the same name finds the same account again.
CREATE TABLE accounts.logins (
  login      text        NOT NULL,
  kind       text        NOT NULL,
  address    text        NOT NULL,
  account_id text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT logins_pkey PRIMARY KEY (login),
  CONSTRAINT logins_one_of_a_kind UNIQUE (account_id, kind),
  CONSTRAINT logins_account FOREIGN KEY (account_id) REFERENCES accounts.accounts (account_id),
  CONSTRAINT logins_kind CHECK (kind IN ('email', 'phone', 'name')),
  CONSTRAINT logins_normal_form CHECK (
    CASE kind
      WHEN 'email' THEN login = lower(login) AND login ~ '^[^@\s]+@[^@\s]+$'
      WHEN 'phone' THEN login ~ '^\+[1-9][0-9]{3,17}$'
      ELSE login LIKE 'name:%'
    END
  )
);
