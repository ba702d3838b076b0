"""Secret keys that the settings accept; they sign nothing outside of the tests."""

from __future__ import annotations

SECRET = "wwu5VGh9MwoWuSfCWnHa8c0ApZjGze-5_ajqGbFePBrJIhLRxann8sLnFvCAeRIe"
NEXT_SECRET = "HJ7swv4hkftG8aZRV8wbTz31Gguq4iG1eJ49MeXjeUMHV5x36tQ7t9jf_F_dyjW-"
