"""Ten questions that the bundled documents answer, with the facts each answer must keep.

The paraphrases ask for the same fact in other words and are answered with it too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question to watch: `must_contain` are strings that a right answer holds."""

    name: str
    text: str
    must_contain: tuple[str, ...]
    paraphrases: tuple[str, ...]


QUESTIONS: tuple[Question, ...] = (
    Question(
        name="returns-policy",
        text="How long do I have to return an unused item?",
        must_contain=("30 days", "full refund"),
        paraphrases=(
            "What is the returns policy for unused items?",
            "Within how many days can I return something for a full refund?",
        ),
    ),
    Question(
        name="standard-delivery",
        text="How much does standard delivery cost?",
        must_contain=("£4.95", "3 to 5 working days"),
        paraphrases=(
            "What is the price of standard delivery?",
            "Standard delivery: what does it cost and how many working days does it take?",
        ),
    ),
    Question(
        name="express-delivery",
        text="By when must I place an express order to get it the next working day?",
        must_contain=("14:00", "£9.50"),
        paraphrases=(
            "What is the cut-off for express orders that arrive the next day?",
            "Until what time are express orders placed for the next working day?",
        ),
    ),
    Question(
        name="cancel-order",
        text="Can I still cancel an order that I have just placed?",
        must_contain=("45 minutes",),
        paraphrases=(
            "How soon after placing an order may I cancel it?",
            "Within how many minutes can I cancel my order myself?",
        ),
    ),
    Question(
        name="gift-card-validity",
        text="How long are gift cards valid?",
        must_contain=("24 months",),
        paraphrases=(
            "For how many months is a gift card valid after purchase?",
            "When do gift cards stop being valid?",
        ),
    ),
    Question(
        name="tent-warranty",
        text="How many years of warranty does a Lantern tent have?",
        must_contain=("5 years",),
        paraphrases=(
            "What does the warranty on Lantern tents cover?",
            "How long is the tent warranty on seams and poles?",
        ),
    ),
    Question(
        name="zip-repair",
        text="What does it cost to replace a jacket zip in the repair workshop?",
        must_contain=("£18",),
        paraphrases=(
            "How much is a zip repair on my jacket?",
            "Can the workshop replace the zip of a jacket, and for how much?",
        ),
    ),
    Question(
        name="wash-jacket",
        text="At what temperature should I wash a waterproof jacket?",
        must_contain=("30 degrees", "fabric softener"),
        paraphrases=(
            "How do I wash my waterproof jacket?",
            "Which soap and how many degrees for washing a waterproof jacket?",
        ),
    ),
    Question(
        name="tent-hire",
        text="What does hiring a two-person tent for a weekend cost?",
        must_contain=("£35",),
        paraphrases=(
            "How much is it to hire a tent for the weekend?",
            "What is the weekend price of hiring a two-person tent?",
        ),
    ),
    Question(
        name="loyalty-points",
        text="How many Pine Points do I earn for every pound?",
        must_contain=("1 Pine Point", "£10 voucher"),
        paraphrases=(
            "What are 200 Pine Points worth?",
            "How do I earn points and vouchers in the loyalty scheme?",
        ),
    ),
)
