-- name: add_account
-- Create an account together with its logins, all or nothing.
WITH account AS (
  INSERT INTO accounts.accounts (account_id, display_name, password_hash)
  VALUES ($1::text, $2::text, $3::text)
  RETURNING account_id
)
INSERT INTO accounts.logins (login, kind, address, account_id)
SELECT given.login, given.kind, given.address, account.account_id
FROM account, unnest($4::text[], $5::text[], $6::text[]) AS given (login, kind, address);

-- name: any_login_known
-- Whether one of these logins belongs to somebody already.
SELECT EXISTS (SELECT FROM accounts.logins WHERE login = ANY ($1::text[]));

-- name: find_credentials
-- The account behind a login, and what its password is checked against.
SELECT account.account_id, account.password_hash
FROM accounts.logins AS login
JOIN accounts.accounts AS account USING (account_id)
WHERE login.login = $1::text;

-- name: replace_password_hash
-- Keep a stronger hash of the same password, unless the password was changed meanwhile.
UPDATE accounts.accounts
SET password_hash = $3::text
WHERE account_id = $1::text AND password_hash = $2::text;

-- name: add_accounts_without_login
-- Create many accounts nobody signs in to.
INSERT INTO accounts.accounts (account_id, display_name, password_hash)
SELECT given.account_id, given.display_name, $3::text
FROM unnest($1::text[], $2::text[]) AS given (account_id, display_name);

-- name: add_missing_named_accounts
-- Create accounts for those of these names that have none. In order, so that two such calls cannot deadlock.
WITH wanted AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (login, account_id, display_name)
), added AS (
  INSERT INTO accounts.logins (login, kind, address, account_id)
  SELECT login, 'name', display_name, account_id FROM wanted ORDER BY login
  ON CONFLICT (login) DO NOTHING
  RETURNING account_id
)
INSERT INTO accounts.accounts (account_id, display_name, password_hash)
SELECT account_id, display_name, $4::text FROM wanted JOIN added USING (account_id);

-- name: find_accounts_by_login
-- The accounts behind these logins.
SELECT login, account_id FROM accounts.logins WHERE login = ANY ($1::text[]);
