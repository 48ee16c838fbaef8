"""What Python sees of logins."""

class Login:
    username: str
    database: str
    rights: str
    authenticated: bool
    over: bool
