"""CompVis's latent diffusion in plain torch, with its own names: an oracle for the converter.

Written from the description of its U-Net (residual blocks that resample, attention with the heads
split before queries, keys and values) and of its VQ autoencoder without attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, silu

from vadpipe.extractors.networks.latent_inpainting import Layout


class Residual(nn.Module):
    def __init__(self, wide: int, out: int, time: int, groups: int, resample: str = "") -> None:
        super().__init__()
        norms = [nn.GroupNorm(groups, wide), nn.GroupNorm(groups, out)]
        convs = [nn.Conv2d(wide, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)]
        self.in_layers = nn.Sequential(norms[0], nn.SiLU(), convs[0])
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out))
        self.out_layers = nn.Sequential(norms[1], nn.SiLU(), nn.Dropout(0.0), convs[1])
        self.skip_connection = nn.Identity() if wide == out else nn.Conv2d(wide, out, 1)
        self.resample = resample

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = silu(self.in_layers[0](x))
        if self.resample == "down":
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        elif self.resample == "up":
            h, x = (interpolate(each, scale_factor=2.0, mode="nearest") for each in (h, x))
        h = self.in_layers[2](h) + self.emb_layers(time)[..., None, None]
        out: Tensor = self.skip_connection(x) + self.out_layers(h)
        return out


class Attention(nn.Module):
    def __init__(self, wide: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, wide)
        self.qkv = nn.Conv1d(wide, 3 * wide, 1)
        self.proj_out = nn.Conv1d(wide, wide, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        b, c, *space = x.shape
        flat = x.reshape(b, c, -1)
        each = c // self.heads
        q, k, v = self.qkv(self.norm(flat)).reshape(b * self.heads, 3 * each, -1).split(each, dim=1)
        weight = (torch.einsum("bct,bcs->bts", q, k) / math.sqrt(each)).softmax(-1)
        mixed = torch.einsum("bts,bcs->bct", weight, v).reshape(b, c, -1)
        return (flat + self.proj_out(mixed)).reshape(b, c, *space)


class Stem(nn.Conv2d):
    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return super().forward(x)


class UNet(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        wide, groups, n = layout.channels, layout.groups, layout.blocks
        time = 4 * wide
        self.wide = wide
        self.time_embed = nn.Sequential(nn.Linear(wide, time), nn.SiLU(), nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([nn.ModuleList([Stem(7, wide, 3, padding=1)])])
        passed, ch, last = [wide], wide, len(layout.multiples) - 1
        for level, multiple in enumerate(layout.multiples):
            for _ in range(n):
                parts: list[nn.Module] = [Residual(ch, multiple * wide, time, groups)]
                ch = multiple * wide
                parts += [Attention(ch, layout.heads, groups)] if level else []
                self.input_blocks.append(nn.ModuleList(parts))
                passed.append(ch)
            if level < last:
                parts = [Residual(ch, ch, time, groups, "down")]
                self.input_blocks.append(nn.ModuleList(parts))
                passed.append(ch)
        middle = [Residual(ch, ch, time, groups), Attention(ch, layout.heads, groups)]
        self.middle_block = nn.ModuleList([*middle, Residual(ch, ch, time, groups)])
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(layout.multiples))):
            for i in range(n + 1):
                parts = [Residual(ch + passed.pop(), multiple * wide, time, groups)]
                ch = multiple * wide
                parts += [Attention(ch, layout.heads, groups)] if level else []
                parts += [Residual(ch, ch, time, groups, "up")] if level and i == n else []
                self.output_blocks.append(nn.ModuleList(parts))
        conv = nn.Conv2d(wide, 3, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(groups, wide), nn.SiLU(), conv)

    def forward(self, x: Tensor, step: int) -> Tensor:
        half = self.wide // 2
        angles = step * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()])[None])
        passed = []
        for block in self.input_blocks:
            for part in block:
                x = part(x, time)
            passed.append(x)
        for part in self.middle_block:
            x = part(x, time)
        for block in self.output_blocks:
            x = torch.cat([x, passed.pop()], dim=1)
            for part in block:
                x = part(x, time)
        out: Tensor = self.out(x)
        return out


class CodeBlock(nn.Module):
    def __init__(self, wide: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(groups, n, eps=1e-6) for n in (wide, out))
        self.conv1, self.conv2 = (nn.Conv2d(n, out, 3, padding=1) for n in (wide, out))
        if wide != out:
            self.nin_shortcut = nn.Conv2d(wide, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        out: Tensor = h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)
        return out


class CodeSide(nn.Module):
    """The encoder, or the decoder."""

    def __init__(self, layout: Layout, decodes: bool) -> None:
        super().__init__()
        wides = [layout.code_channels * m for m in layout.code_multiples]
        g, ends = layout.groups, (wides[0], wides[-1])
        first, final = ends[::-1] if decodes else ends
        self.decodes = decodes
        self.conv_in = nn.Conv2d(3, first, 3, padding=1)
        self.mid = nn.ModuleDict({f"block_{i}": CodeBlock(ends[1], ends[1], g) for i in (1, 2)})
        levels, ch = [nn.Module() for _ in wides], first
        for level in reversed(range(len(wides))) if decodes else range(len(wides)):
            blocks = []
            for _ in range(layout.blocks + decodes):
                blocks.append(CodeBlock(ch, wides[level], g))
                ch = wides[level]
            levels[level].block = nn.ModuleList(blocks)
            resample = nn.Module()
            if decodes and level > 0:
                resample.conv = nn.Conv2d(ch, ch, 3, padding=1)
                levels[level].upsample = resample
            if not decodes and level < len(wides) - 1:
                resample.conv = nn.Conv2d(ch, ch, 3, stride=2)
                levels[level].downsample = resample
        setattr(self, "up" if decodes else "down", nn.ModuleList(levels))
        self.norm_out = nn.GroupNorm(g, final, eps=1e-6)
        self.conv_out = nn.Conv2d(final, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        if self.decodes:
            x = self.mid["block_2"](self.mid["block_1"](x))
        for level in reversed(self.up) if self.decodes else self.down:
            for block in level.block:
                x = block(x)
            if hasattr(level, "upsample"):
                x = level.upsample.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
            if hasattr(level, "downsample"):
                x = level.downsample.conv(pad(x, (0, 1, 0, 1)))
        if not self.decodes:
            x = self.mid["block_2"](self.mid["block_1"](x))
        out: Tensor = self.conv_out(silu(self.norm_out(x)))
        return out


class Codes(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.encoder, self.decoder = CodeSide(layout, False), CodeSide(layout, True)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(layout.codes, 3)})

    def encode(self, x: Tensor) -> Tensor:
        out: Tensor = self.quant_conv(self.encoder(x))
        return out

    def decode(self, z: Tensor) -> Tensor:
        book = self.quantize["embedding"].weight
        nearest = torch.cdist(z.permute(0, 2, 3, 1).reshape(1, -1, 3), book[None])[0].argmin(1)
        b, _, h, w = z.shape
        out: Tensor = self.decoder(
            self.post_quant_conv(book[nearest].reshape(b, h, w, 3).permute(0, 3, 1, 2))
        )
        return out


class Checkpoint(nn.Module):
    """All that the published file holds, by its names."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"diffusion_model": UNet(layout)})
        self.first_stage_model = Codes(layout)

    def paint(self, pictures: Tensor, masks: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The script of CompVis: DDIM without noise, (B, 3, H, W) in [0, 1]."""
        codes, unet = self.first_stage_model, self.model["diffusion_model"]
        c = codes.encode((1 - masks) * pictures * 2 - 1)
        c = torch.cat([c, interpolate(masks * 2 - 1, size=c.shape[-2:])], dim=1)
        betas = torch.linspace(0.0015**0.5, 0.0205**0.5, 1000, dtype=torch.float64) ** 2
        alphas = torch.cumprod(1 - betas, 0).float()
        times = list(range(0, 1000, 1000 // steps))[:steps]
        times = [t + 1 for t in times]
        x = noise
        for i in reversed(range(steps)):
            here, before = alphas[times[i]], alphas[times[i - 1] if i else 0]
            e = unet(torch.cat([x, c], dim=1), times[i])
            start = (x - (1 - here).sqrt() * e) / here.sqrt()
            x = before.sqrt() * start + (1 - before).sqrt() * e
        out: Tensor = ((codes.decode(x) + 1) / 2).clamp(0, 1)
        return out
