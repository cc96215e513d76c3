"""An application that knows only the openai package: `python use_openai.py http://HOST:PORT/v1`.

Input: the base URL of a router, a key in OPENAI_API_KEY. Output: what was seen, as one JSON line;
or one sentence and exit code 1.
"""

import json
import sys
import time

import openai

_TOKENS = 60


def main(base_url: str) -> None:
    """List the models; complete, chat, stream; ask for a model that does not exist."""
    client = openai.OpenAI(base_url=base_url, timeout=30, max_retries=0)
    must("shakespeare" in {model.id for model in client.models.list()}, "the model is listed")
    whole = client.completions.create(
        model="shakespeare", prompt="ROMEO:\n", max_tokens=20, temperature=0
    )
    must(len(whole.choices[0].text) == 20, f"a completion has 20 characters: {whole}")
    again = client.completions.create(
        model="shakespeare@2", prompt="ROMEO:\n", max_tokens=20, temperature=0
    )
    must(again.choices[0].text == whole.choices[0].text, "version 2 is the default version")
    said = client.chat.completions.create(
        model="shakespeare", messages=[{"role": "user", "content": "Who art thou?"}], max_tokens=20
    )
    must(said.choices[0].message.content, f"the chat has an answer: {said}")
    first_s, last_s, pieces = _stream(client)
    must(pieces > _TOKENS // 4, f"a stream comes in many pieces: {pieces}")
    must(first_s < last_s / 2, f"the first piece ({first_s} s) comes before the last ({last_s} s)")
    refusal = ""
    try:
        client.completions.create(model="shakespear", prompt="x")
    except openai.NotFoundError as error:
        refusal = str(error)
    must("shakespeare" in refusal, f"a wrong name is answered with near misses: {refusal}")
    shown = {"first_event_ms": round(first_s * 1e3), "last_event_ms": round(last_s * 1e3)}
    print(json.dumps({**shown, "pieces": pieces}))


def _stream(client: openai.OpenAI) -> tuple[float, float, int]:
    """Return when the first and the last piece came, in seconds, and how many there were."""
    started_s = time.perf_counter()
    times = [
        time.perf_counter() - started_s
        for piece in client.completions.create(
            model="shakespeare", prompt="JULIET:\n", max_tokens=_TOKENS, stream=True
        )
        if piece.choices and piece.choices[0].text
    ]
    return times[0], times[-1], len(times)


def must(true: object, what: str) -> None:
    """End with one sentence unless something is true."""
    if not true:
        raise SystemExit(f"expected that {what}")


if __name__ == "__main__":
    main(sys.argv[1])
