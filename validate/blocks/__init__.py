"""Reference blocks of today's models: short plain torch code to learn from, each tested by numbers.

Slow and clear on purpose: one function one formula, shapes in the docstring, no kernels. Their
flops and bytes are those that ``calc.work`` counts; ``tests/validate/blocks`` says so.

========================  =====================================================================
``rope``                  rotary positions: scores depend on distances only
``norm``                  RMS norm, with the residual sum that engines fuse into it
``attention``             multi-head, grouped-query and multi-query attention, sliding windows
``cache``                 a layer that decodes token by token from its key-value cache
``latent``                multi-head latent attention, expanded and absorbed
``feedforward``           SwiGLU and the plain feed-forward of the same size
``moe``                   routing to the top experts, and the loss that spreads them
``state_space``           Mamba-2: token by token, and in chunks
``delta``                 the gated delta rule: token by token, and in chunks
========================  =====================================================================

They need torch: ``pip install 'ullage[validate]'``.
"""
