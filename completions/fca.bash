# bash completion of fca, made by `fca completions bash`

_fca_words() {
    local IFS=$' \n'
    COMPREPLY+=($(compgen -W "$1" -- "$current"))
}

_fca_files() {
    local IFS=$'\n'
    COMPREPLY+=($(compgen "$1" -- "$current"))
}

_fca() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        _fca_words "prepare plan train predict eval compare demo benchmark toy weights doctor completions --help --version"
        return
    fi
    case "$command $previous" in
        "prepare --base") _fca_words "auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b"; return ;;
        "prepare --split") _fca_words "train val test"; return ;;
        "prepare --fit") _fca_words "crop pad stretch"; return ;;
        "prepare --protocol") _fca_words "ours seer"; return ;;
        "plan --run") _fca_words "$(ls runs 2>/dev/null)"; return ;;
        "plan --base") _fca_words "auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b"; return ;;
        "plan --data") _fca_words "$(ls data 2>/dev/null)"; return ;;
        "plan --adapter") _fca_words "fca lora fca-in-context fca-lora"; return ;;
        "plan --fit") _fca_words "crop pad stretch"; return ;;
        "plan --optimizer") _fca_words "adamw8bit paged-adamw8bit adamw muon"; return ;;
        "plan --precision") _fca_words "auto bf16 fp32"; return ;;
        "plan --weights") _fca_words "fp32 bf16 bf16-stochastic"; return ;;
        "plan --base-weights") _fca_words "full fp8 int8 nf4"; return ;;
        "plan --sampler") _fca_words "base fresh-noise"; return ;;
        "train --base") _fca_words "auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b"; return ;;
        "train --data") _fca_words "$(ls data 2>/dev/null)"; return ;;
        "train --adapter") _fca_words "fca lora fca-in-context fca-lora"; return ;;
        "train --fit") _fca_words "crop pad stretch"; return ;;
        "train --optimizer") _fca_words "adamw8bit paged-adamw8bit adamw muon"; return ;;
        "train --precision") _fca_words "auto bf16 fp32"; return ;;
        "train --weights") _fca_words "fp32 bf16 bf16-stochastic"; return ;;
        "train --base-weights") _fca_words "full fp8 int8 nf4"; return ;;
        "train --run") _fca_words "$(ls runs 2>/dev/null)"; return ;;
        "train --fork") _fca_words "$(ls runs 2>/dev/null)"; return ;;
        "train --sampler") _fca_words "base fresh-noise"; return ;;
        "train --accelerate-config") _fca_files -d; return ;;
        "predict --run") _fca_words "$(ls runs 2>/dev/null)"; return ;;
        "predict --sampler") _fca_words "base fresh-noise"; return ;;
        "predict --offload") _fca_words "none model sequential"; return ;;
        "predict --out") _fca_files -d; return ;;
        "eval --run") _fca_words "$(ls runs 2>/dev/null)"; return ;;
        "eval --split") _fca_words "train val test"; return ;;
        "eval --pred") _fca_files -d; return ;;
        "eval --real") _fca_files -d; return ;;
        "eval --out") _fca_files -d; return ;;
        "eval --protocol") _fca_words "ours seer"; return ;;
        "eval --fvd-preset") _fca_words "tf styleganv videogpt cdfvd"; return ;;
        "eval --i3d") _fca_files -d; return ;;
        "eval --weights-dir") _fca_files -d; return ;;
        "benchmark --only") _fca_words "base copy fca lora-64 lora-16 lora-96 fca-in-context fca-lora copy-17 fca-17 lora-in-place-17 lora-17 copy-17-9 fca-17-9 lora-in-place-17-9 lora-17-9 no-y-frames no-x-init patch-x-init no-mask shared-text text-in-attention no-vit random-projections block-modulation half-width"; return ;;
        "weights --fetch") _fca_words "i3d lpips-trunk lpips-linear clip inception"; return ;;
        "weights --weights-dir") _fca_files -d; return ;;
        "prepare --name" | "prepare --workers" | "prepare --shard" | "prepare --limit" | "prepare --filter" | "prepare --frames" | "prepare --init-frames" | "prepare --size" | "prepare --fps" | "prepare --camera" | "prepare --fold" | "plan --gpus" | "plan --gpu-memory" | "plan --keep" | "plan --nodes" | "plan --processes" | "plan --adapter-width" | "plan --set" | "plan --lora-rank" | "plan --frames" | "plan --init-frames" | "plan --size" | "plan --fps" | "plan --steps" | "plan --lr" | "plan --text-lr-scale" | "plan --timestep-power" | "plan --batch-size" | "plan --accumulate" | "plan --warmup" | "plan --weight-decay" | "plan --clip-norm" | "plan --caption-dropout" | "plan --block-swap" | "plan --seed" | "plan --validate-every" | "plan --validate-clips" | "plan --sample-steps" | "plan --guidance" | "train --gpus" | "train --adapter-width" | "train --set" | "train --lora-rank" | "train --frames" | "train --init-frames" | "train --size" | "train --fps" | "train --steps" | "train --lr" | "train --text-lr-scale" | "train --timestep-power" | "train --batch-size" | "train --accumulate" | "train --warmup" | "train --weight-decay" | "train --clip-norm" | "train --caption-dropout" | "train --block-swap" | "train --seed" | "train --validate-every" | "train --validate-clips" | "train --sample-steps" | "train --guidance" | "train --checkpoint-minutes" | "train --keep" | "train --max-minutes" | "train --workers" | "train --nodes" | "train --rendezvous" | "train --processes" | "predict --checkpoint" | "predict --device" | "predict --steps" | "predict --guidance" | "predict --num" | "predict --seed" | "eval --checkpoint" | "eval --limit" | "eval --num" | "eval --i2v" | "eval --device" | "eval --gpus" | "eval --processes" | "eval --given" | "eval --metrics" | "demo --seed" | "demo --clips" | "demo --steps" | "benchmark --gpus" | "benchmark --steps" | "benchmark --seeds" | "benchmark --clips" | "benchmark --scored" | "benchmark --sample-steps" | "benchmark --processes" | "benchmark --minutes" | "toy --clips" | "toy --seed" | "toy --size") return ;;
    esac
    case "$command" in
        prepare)
            if [[ $current == -* ]]; then _fca_words "--name --check --strict --replace --workers --shard --base --split --limit --filter --frames --init-frames --size --fit --fps --protocol --camera --fold --trust-pickle --json --verbose --quiet --help"; return; fi
            _fca_words "ssv2 bridge epic-kitchens ucf101 lerobot folder"
            _fca_files -d
            ;;
        plan)
            if [[ $current == -* ]]; then _fca_words "--gpus --gpu-memory --predict --run --keep --nodes --processes --json --verbose --quiet --base --data --adapter --adapter-width --set --lora-rank --frames --init-frames --size --fit --fps --steps --lr --text-lr-scale --timestep-power --batch-size --accumulate --warmup --weight-decay --clip-norm --caption-dropout --optimizer --precision --weights --offload-optimizer --no-offload-optimizer --offload-gradients --no-offload-gradients --checkpointing --no-checkpointing --offload-activations --no-offload-activations --base-weights --block-swap --shard-base --no-shard-base --vae-tiling --no-vae-tiling --deterministic --no-deterministic --compile --no-compile --seed --validate-every --validate-clips --sample-steps --guidance --sampler --help"; return; fi
            ;;
        train)
            if [[ $current == -* ]]; then _fca_words "--gpus --base --data --adapter --adapter-width --set --lora-rank --frames --init-frames --size --fit --fps --steps --lr --text-lr-scale --timestep-power --batch-size --accumulate --warmup --weight-decay --clip-norm --caption-dropout --optimizer --precision --weights --offload-optimizer --no-offload-optimizer --offload-gradients --no-offload-gradients --checkpointing --no-checkpointing --offload-activations --no-offload-activations --base-weights --block-swap --shard-base --no-shard-base --vae-tiling --no-vae-tiling --deterministic --no-deterministic --compile --no-compile --seed --run --new --fork --force --validate-every --validate-clips --sample-steps --guidance --sampler --checkpoint-minutes --keep --max-minutes --workers --nodes --rendezvous --processes --accelerate-config --print-launch --json --verbose --quiet --help"; return; fi
            ;;
        predict)
            if [[ $current == -* ]]; then _fca_words "--run --checkpoint --device --steps --guidance --sampler --num --seed --compile --no-compile --offload --keep-generated-init --out --json --verbose --quiet --help"; return; fi
            _fca_files -f
            ;;
        eval)
            if [[ $current == -* ]]; then _fca_words "--run --checkpoint --split --limit --num --no-others --i2v --device --gpus --processes --pred --real --given --intersect --out --metrics --protocol --fvd-preset --i3d --weights-dir --ci --no-ci --prepend-given --strict --json --verbose --quiet --help"; return; fi
            ;;
        compare)
            if [[ $current == -* ]]; then _fca_words "--anyway --json --verbose --quiet --help"; return; fi
            ;;
        demo)
            if [[ $current == -* ]]; then _fca_words "--seed --clips --steps --json --verbose --quiet --help"; return; fi
            _fca_files -d
            ;;
        benchmark)
            if [[ $current == -* ]]; then _fca_words "--only --choose --gpus --steps --seeds --clips --scored --sample-steps --processes --minutes --json --verbose --quiet --help"; return; fi
            _fca_files -d
            ;;
        toy)
            if [[ $current == -* ]]; then _fca_words "--clips --seed --size --json --verbose --quiet --help"; return; fi
            _fca_files -d
            ;;
        weights)
            if [[ $current == -* ]]; then _fca_words "--fetch --weights-dir --json --verbose --quiet --help"; return; fi
            ;;
        doctor)
            if [[ $current == -* ]]; then _fca_words "--json --help"; return; fi
            ;;
        completions)
            if [[ $current == -* ]]; then _fca_words "--help"; return; fi
            _fca_words "bash zsh fish"
            ;;
    esac
}

complete -o filenames -F _fca fca
