"""Problem documents (RFC 9457)."""


def assert_problem(answer, status, *words):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert "\n" not in problem["detail"]
    for word in words:
        assert word in problem["detail"]
