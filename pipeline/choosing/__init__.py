"""What settings are chosen by without abnormal footage: fast copies, and clips made with them."""
