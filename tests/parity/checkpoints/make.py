"""Makes a tiny random vision-language folder as transformers saves one, processor included, and compares what transformers'
Auto classes make of a checkpoint of ours with our own log-probabilities.

    python make.py FAMILY DIR TOKENIZER_JSON   writes DIR (qwen3_vl, qwen2_5_vl or internvl)
    python make.py --check DIR PICTURE ROWS    prints the largest difference from the log-probabilities in ROWS, the output
                                               of `svgrl logprobs` on DIR for the completion COMPLETION of PROMPT
    python make.py --check-run DIR ROWS OUT    the same of a policy that reads text: OUT is the output of `svgrl logprobs` on DIR
                                               for ROWS of messages and completions
"""

import json
import pathlib
import sys

import torch
from tokenizers import AddedToken, Tokenizer
import transformers as T

TEXT = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=4096, rms_norm_eps=1e-5)
PROMPT, COMPLETION = "Draw this.", '<svg width="10"/>'
CHAT = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}PLACE{% else %}"
        "{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def tokenizer(source, tokens, named):
    inner = Tokenizer.from_file(source)
    inner.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    return T.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                     extra_special_tokens=named)


def qwen(family, source):
    words = tokenizer(source, ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
                               "<|image_pad|>", "<|video_pad|>"], {})
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in (
        ("image", "<|image_pad|>"), ("video", "<|video_pad|>"), ("vision_start", "<|vision_start|>"),
        ("vision_end", "<|vision_end|>"))}
    rope = {"rope_type": "default", "rope_theta": 500.0}
    tower = dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=16)
    if family == "qwen3_vl":
        rope |= {"mrope_section": [2, 2, 2], "mrope_interleaved": True}
        config = T.Qwen3VLConfig(text_config={**TEXT, "vocab_size": len(words), "head_dim": 12, "rope_parameters": rope},
                                 vision_config=tower | dict(num_position_embeddings=16, deepstack_visual_indexes=[0, 1]),
                                 **ids, tie_word_embeddings=False)
        processor, video = T.Qwen3VLProcessor, T.Qwen3VLVideoProcessor
    else:
        rope |= {"mrope_section": [1, 1, 0]}
        config = T.Qwen2_5_VLConfig(text_config={**TEXT, "vocab_size": len(words), "rope_parameters": rope, "bos_token_id": None,
                                                 "eos_token_id": None},
                                    vision_config=tower | dict(window_size=16, fullatt_block_indexes=[1]), **ids,
                                    tie_word_embeddings=True)
        processor, video = T.Qwen2_5_VLProcessor, T.Qwen2VLVideoProcessor
    pictures = T.Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 16, max_pixels=64 * 40)
    chat = CHAT.replace("PLACE", "<|vision_start|><|image_pad|><|vision_end|>")
    return config, processor(image_processor=pictures, tokenizer=words, video_processor=video(patch_size=4, merge_size=2),
                             chat_template=chat)


def internvl(source):
    words = tokenizer(source, ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
                      {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
                       "video_token": "<video>"})
    config = T.InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words),
                     "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        vision_config=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20,
                           image_size=[16, 16], patch_size=[4, 4], attention_bias=True, use_qk_norm=False),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, tie_word_embeddings=False)
    size = {"height": 16, "width": 16}
    pictures = T.GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=3)
    return config, T.InternVLProcessor(
        image_processor=pictures, tokenizer=words, video_processor=T.InternVLVideoProcessor(size=size), image_seq_length=4,
        chat_template=CHAT.replace("PLACE", "<IMG_CONTEXT>\n"))


def make(family, folder, source):
    config, processor = internvl(source) if family == "internvl" else qwen(family, source)
    torch.manual_seed(0)
    model = T.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.dim() == 1 and parameter.mean() == 1 else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.15 + centre)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def check(folder, picture, rows):
    processor = T.AutoProcessor.from_pretrained(folder)
    # The default backend's pixels differ from Pillow's by a level or two, which shows in the log-probabilities.
    of_pillow = T.GotOcr2ImageProcessorPil if "InternVL" in type(processor).__name__ else T.Qwen2VLImageProcessorPil
    processor.image_processor = of_pillow.from_pretrained(folder)
    model = T.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": PROMPT}]}
    fed = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
    completion = torch.tensor([processor.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]])
    ids = torch.cat([fed.pop("input_ids"), completion], 1)
    fed["attention_mask"] = torch.ones_like(ids)
    if "mm_token_type_ids" in fed:
        fed["mm_token_type_ids"] = torch.cat([fed["mm_token_type_ids"], torch.zeros_like(completion)], 1)
    with torch.no_grad():
        logprobs = model(input_ids=ids, **fed).logits[0].log_softmax(-1)
    theirs = logprobs[-1 - completion.shape[1]:-1].gather(-1, completion.T)[:, 0]
    ours = torch.tensor(json.loads(pathlib.Path(rows).read_text())["logprobs"])
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    print((ours - theirs).abs().max().item())


def check_run(folder, rows, out):
    tokenizer = T.AutoTokenizer.from_pretrained(folder)
    model = T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked, told = ([json.loads(line) for line in pathlib.Path(path).read_text().splitlines()] for path in (rows, out))
    assert [row["id"] for row in asked] == [row["id"] for row in told] and asked
    worst = 0.0
    for row, ours in zip(asked, told):
        prompt = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        completion = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        theirs = logprobs[len(prompt) - 1:-1].gather(-1, torch.tensor(completion)[:, None])[:, 0]
        ours = torch.tensor(ours["logprobs"])
        assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
        difference = (ours - theirs).abs().max().item()
        # A NaN stays: no comparison with it is true.
        worst = difference if not difference <= worst else worst
    print(worst)


if __name__ == "__main__":
    if sys.argv[1] == "--check-run":
        check_run(*sys.argv[2:])
    elif sys.argv[1] == "--check":
        check(*sys.argv[2:])
    else:
        make(*sys.argv[1:])
