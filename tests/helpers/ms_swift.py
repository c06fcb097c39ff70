"""Lines of ms-swift for tests."""

import json


def swift_line(audio: str, content: str, *, user: str | None = None, **fields) -> str:
    messages = [{"role": "user", "content": user}] if user else []
    messages.append({"role": "assistant", "content": content})
    return json.dumps({"messages": messages, "audios": [audio], **fields}, ensure_ascii=False)
