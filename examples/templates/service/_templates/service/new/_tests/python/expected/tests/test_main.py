import unittest

from app.main import answer


class Answers(unittest.TestCase):
    def test_health(self) -> None:
        self.assertEqual(answer("/healthz"), (200, "ok\n"))

    def test_metrics_count(self) -> None:
        answer("/nothing")
        status, text = answer("/metrics")
        self.assertEqual(status, 200)
        self.assertIn('order_service_requests_total{path="/nothing"} 1', text)


if __name__ == "__main__":
    unittest.main()
