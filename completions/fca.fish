# fish completion of fca, made by `fca completions fish`

complete -c fca -f
complete -c fca -n __fish_use_subcommand -l version -d 'Show the version'
complete -c fca -n __fish_use_subcommand -s h -l help -d 'Show help'
complete -c fca -n __fish_use_subcommand -a prepare -d 'Bring raw videos into one form: data/NAME/{train,val,test}, with an audit of what was found'
complete -c fca -n '__fish_seen_subcommand_from prepare' -x -a 'ssv2 bridge epic-kitchens ucf101 lerobot folder'
complete -c fca -n '__fish_seen_subcommand_from prepare' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l name -d 'Name below data/' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l check -d 'Decode every clip and write audit.json and audit.html, and no clip'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l strict -d 'Stop at the first clip that cannot be used'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l replace -d 'Replace what was prepared under this name with other options'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l workers -d 'Processes that decode videos' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l shard -d 'Part I of N, each on a machine of its own with this folder shared' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l base -d 'Encode for this base at once; else the first phase of train does' -x -a 'auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l split -d 'Only this split' -x -a 'train val test'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l limit -d 'Take at most so many clips of each split' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l filter -d 'Only clips whose caption holds this' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l frames -d 'Keep N frames at equal spacing in time' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l init-frames -d 'How many of them are given, as the default of training' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l size -d 'Width and height in pixels' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l fit -d 'How another aspect ratio is brought to --size' -x -a 'crop pad stretch'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l fps -d 'Frames per second; with --frames the first N at that rate' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l protocol -d 'seer: its clips, crop and blended frames, to compare with that paper' -x -a 'ours seer'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l camera -d 'Of lerobot and bridge' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l fold -d 'Which lists of ucf101' -x
complete -c fca -n '__fish_seen_subcommand_from prepare' -l trust-pickle -d 'Load bridges out.npy, which can run programs'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from prepare' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a plan -d 'Predict memory, disk and time of a training, without its weights or a GPU; fca train takes the same options'
complete -c fca -n '__fish_seen_subcommand_from plan' -l gpus -d 'CUDA devices to use, 0 for the CPU; mini trains on the CPU where there is none' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l gpu-memory -d 'Find the least costly options that fit a card of this size: 12GB, 12GiB, 12000MB. A GB is a billion bytes; a card sold as 12 GB has about 12GiB, 7 % more' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l predict -d 'Plan fca predict instead, by a run of these options, for each --offload of it'
complete -c fca -n '__fish_seen_subcommand_from plan' -l run -d 'With --predict: by this run below runs/' -x -a '(ls runs 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from plan' -l keep -d 'Checkpoints kept' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l nodes -d 'Machines, each with --gpus devices' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l processes -d 'With --gpus 0: processes on the CPU' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from plan' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from plan' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from plan' -l base -d 'auto, mini, cogvideox-2b, cogvideox-5b, cogvideox1.5-5b, a hub id, or a folder in diffusers layout' -x -a 'auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b'
complete -c fca -n '__fish_seen_subcommand_from plan' -l data -d 'Prepared dataset below data/' -x -a '(ls data 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from plan' -l adapter -d 'The papers; the LoRA baseline; FCA with clean frames in front, or with LoRA on the base' -x -a 'fca lora fca-in-context fca-lora'
complete -c fca -n '__fish_seen_subcommand_from plan' -l adapter-width -d 'Width of the parallel attention, of whole heads' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l set -d 'Another field of the adapter, see the README; may be repeated' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l lora-rank -d 'Rank, with --adapter lora' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l frames -d 'Frames of a clip, the given ones included' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l init-frames -d 'How many of them are given' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l size -d 'Width and height in pixels' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l fit -d 'How another aspect ratio is brought to that size' -x -a 'crop pad stretch'
complete -c fca -n '__fish_seen_subcommand_from plan' -l fps -d 'Frames per second of the written predictions' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l steps -d 'Optimizer steps' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l lr -d 'Peak learning rate' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l text-lr-scale -d 'Of FCAs text modules, as a multiple of --lr' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l timestep-power -d 'Below 1: more time steps with much noise' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l batch-size -d 'Clips that go through the base at once' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l accumulate -d 'Batches per optimizer step, over all processes' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l warmup -d 'Steps of linear warm-up' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l weight-decay -d 'Of matrices' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l clip-norm -d 'Gradient norm above which gradients are scaled down' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l caption-dropout -d 'Share of samples with the empty caption' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l optimizer -d 'AdamW with 8-bit state, the same in pages that CUDA moves, or ordinary; Muon' -x -a 'adamw8bit paged-adamw8bit adamw muon'
complete -c fca -n '__fish_seen_subcommand_from plan' -l precision -d 'Arithmetic of a step; auto: bf16 where the device has it' -x -a 'auto bf16 fp32'
complete -c fca -n '__fish_seen_subcommand_from plan' -l weights -d 'Trained weights: fp32; bf16 with an exact remainder; bf16 rounded by lot, the least memory' -x -a 'fp32 bf16 bf16-stochastic'
complete -c fca -n '__fish_seen_subcommand_from plan' -l offload-optimizer -l no-offload-optimizer -d 'Keep the optimizers state in host memory: slower, less device memory'
complete -c fca -n '__fish_seen_subcommand_from plan' -l offload-gradients -l no-offload-gradients -d 'Have gradients wait in host memory: slower, less device memory'
complete -c fca -n '__fish_seen_subcommand_from plan' -l checkpointing -l no-checkpointing -d 'Recompute activations in the backward pass: slower, less memory'
complete -c fca -n '__fish_seen_subcommand_from plan' -l offload-activations -l no-offload-activations -d 'Keep in main memory what they are recomputed from'
complete -c fca -n '__fish_seen_subcommand_from plan' -l base-weights -d 'The frozen bases: in full, in 8 bits or in 4' -x -a 'full fp8 int8 nf4'
complete -c fca -n '__fish_seen_subcommand_from plan' -l block-swap -d 'Frozen blocks that wait in main memory and are copied ahead of their use' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l shard-base -l no-shard-base -d 'Share the frozen base out among the devices (FSDP2); each gathers a part when it is used'
complete -c fca -n '__fish_seen_subcommand_from plan' -l vae-tiling -l no-vae-tiling -d 'Decode videos in tiles'
complete -c fca -n '__fish_seen_subcommand_from plan' -l deterministic -l no-deterministic -d 'On a GPU: kernels that give the same bits each time. Long clips take longer'
complete -c fca -n '__fish_seen_subcommand_from plan' -l compile -l no-compile -d 'Run all blocks through torch.compile'
complete -c fca -n '__fish_seen_subcommand_from plan' -l seed -d 'Seed of all that is random' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l validate-every -d 'Steps between validations; 0 for only the last' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l validate-clips -d 'Clips generated at a validation' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l sample-steps -d 'Denoising steps of those clips, and default of predict and eval' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l guidance -d 'Classifier-free guidance of the same' -x
complete -c fca -n '__fish_seen_subcommand_from plan' -l sampler -d 'Of the same: the bases own scheduler, or new noise at every step' -x -a 'base fresh-noise'
complete -c fca -n '__fish_seen_subcommand_from plan' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a train -d 'Train an adapter on the prepared data; run it again to continue after an interruption'
complete -c fca -n '__fish_seen_subcommand_from train' -l gpus -d 'CUDA devices to use, 0 for the CPU; mini trains on the CPU where there is none' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l base -d 'auto, mini, cogvideox-2b, cogvideox-5b, cogvideox1.5-5b, a hub id, or a folder in diffusers layout' -x -a 'auto mini cogvideox-2b cogvideox-5b cogvideox1.5-5b'
complete -c fca -n '__fish_seen_subcommand_from train' -l data -d 'Prepared dataset below data/' -x -a '(ls data 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from train' -l adapter -d 'The papers; the LoRA baseline; FCA with clean frames in front, or with LoRA on the base' -x -a 'fca lora fca-in-context fca-lora'
complete -c fca -n '__fish_seen_subcommand_from train' -l adapter-width -d 'Width of the parallel attention, of whole heads' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l set -d 'Another field of the adapter, see the README; may be repeated' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l lora-rank -d 'Rank, with --adapter lora' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l frames -d 'Frames of a clip, the given ones included' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l init-frames -d 'How many of them are given' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l size -d 'Width and height in pixels' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l fit -d 'How another aspect ratio is brought to that size' -x -a 'crop pad stretch'
complete -c fca -n '__fish_seen_subcommand_from train' -l fps -d 'Frames per second of the written predictions' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l steps -d 'Optimizer steps' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l lr -d 'Peak learning rate' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l text-lr-scale -d 'Of FCAs text modules, as a multiple of --lr' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l timestep-power -d 'Below 1: more time steps with much noise' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l batch-size -d 'Clips that go through the base at once' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l accumulate -d 'Batches per optimizer step, over all processes' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l warmup -d 'Steps of linear warm-up' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l weight-decay -d 'Of matrices' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l clip-norm -d 'Gradient norm above which gradients are scaled down' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l caption-dropout -d 'Share of samples with the empty caption' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l optimizer -d 'AdamW with 8-bit state, the same in pages that CUDA moves, or ordinary; Muon' -x -a 'adamw8bit paged-adamw8bit adamw muon'
complete -c fca -n '__fish_seen_subcommand_from train' -l precision -d 'Arithmetic of a step; auto: bf16 where the device has it' -x -a 'auto bf16 fp32'
complete -c fca -n '__fish_seen_subcommand_from train' -l weights -d 'Trained weights: fp32; bf16 with an exact remainder; bf16 rounded by lot, the least memory' -x -a 'fp32 bf16 bf16-stochastic'
complete -c fca -n '__fish_seen_subcommand_from train' -l offload-optimizer -l no-offload-optimizer -d 'Keep the optimizers state in host memory: slower, less device memory'
complete -c fca -n '__fish_seen_subcommand_from train' -l offload-gradients -l no-offload-gradients -d 'Have gradients wait in host memory: slower, less device memory'
complete -c fca -n '__fish_seen_subcommand_from train' -l checkpointing -l no-checkpointing -d 'Recompute activations in the backward pass: slower, less memory'
complete -c fca -n '__fish_seen_subcommand_from train' -l offload-activations -l no-offload-activations -d 'Keep in main memory what they are recomputed from'
complete -c fca -n '__fish_seen_subcommand_from train' -l base-weights -d 'The frozen bases: in full, in 8 bits or in 4' -x -a 'full fp8 int8 nf4'
complete -c fca -n '__fish_seen_subcommand_from train' -l block-swap -d 'Frozen blocks that wait in main memory and are copied ahead of their use' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l shard-base -l no-shard-base -d 'Share the frozen base out among the devices (FSDP2); each gathers a part when it is used'
complete -c fca -n '__fish_seen_subcommand_from train' -l vae-tiling -l no-vae-tiling -d 'Decode videos in tiles'
complete -c fca -n '__fish_seen_subcommand_from train' -l deterministic -l no-deterministic -d 'On a GPU: kernels that give the same bits each time. Long clips take longer'
complete -c fca -n '__fish_seen_subcommand_from train' -l compile -l no-compile -d 'Run all blocks through torch.compile'
complete -c fca -n '__fish_seen_subcommand_from train' -l seed -d 'Seed of all that is random' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l run -d 'Name below runs/; an unfinished run of that name continues' -x -a '(ls runs 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from train' -l new -d 'Start a new run even if an unfinished one could continue'
complete -c fca -n '__fish_seen_subcommand_from train' -l fork -d 'Start a new run from the newest weights of this one; its options, but for those given here' -x -a '(ls runs 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from train' -l force -d 'Start even if the plan (see fca plan) says that it will not fit'
complete -c fca -n '__fish_seen_subcommand_from train' -l validate-every -d 'Steps between validations; 0 for only the last' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l validate-clips -d 'Clips generated at a validation' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l sample-steps -d 'Denoising steps of those clips, and default of predict and eval' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l guidance -d 'Classifier-free guidance of the same' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l sampler -d 'Of the same: the bases own scheduler, or new noise at every step' -x -a 'base fresh-noise'
complete -c fca -n '__fish_seen_subcommand_from train' -l checkpoint-minutes -d 'Minutes between checkpoints' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l keep -d 'Checkpoints kept' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l max-minutes -d 'Stop after so long, saved and unfinished' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l workers -d 'Processes that load clips' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l nodes -d 'Machines, each with --gpus devices' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l rendezvous -d 'Where the machines meet' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l processes -d 'With --gpus 0: processes on the CPU' -x
complete -c fca -n '__fish_seen_subcommand_from train' -l accelerate-config -d 'File of accelerate config to go by' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from train' -l print-launch -d 'Print a SLURM script of this training and do nothing'
complete -c fca -n '__fish_seen_subcommand_from train' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from train' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from train' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from train' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a predict -d 'Predict what follows the given frames under the text: MP4, GIF, PNG frames and a contact sheet'
complete -c fca -n '__fish_seen_subcommand_from predict' -F
complete -c fca -n '__fish_seen_subcommand_from predict' -l run -d 'Run below runs/' -x -a '(ls runs 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from predict' -l checkpoint -d 'Checkpoint of the run' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l device -d 'cpu, cuda, cuda:1, ' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l steps -d 'Denoising steps' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l guidance -d 'Classifier-free guidance; 1 for none' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l sampler -d 'The bases own scheduler, or new noise at every step' -x -a 'base fresh-noise'
complete -c fca -n '__fish_seen_subcommand_from predict' -l num -d 'Predictions; number n uses seed + n' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l seed -d 'Seed of the noise' -x
complete -c fca -n '__fish_seen_subcommand_from predict' -l compile -l no-compile -d 'Run the transformers blocks through torch.compile'
complete -c fca -n '__fish_seen_subcommand_from predict' -l offload -d 'What FCA uses once (model), the bases blocks too (sequential) wait in main memory: slower, the same video' -x -a 'none model sequential'
complete -c fca -n '__fish_seen_subcommand_from predict' -l keep-generated-init -d 'Show the models own first frames instead of the given ones'
complete -c fca -n '__fish_seen_subcommand_from predict' -l out -d 'Folder to write' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from predict' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from predict' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from predict' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from predict' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a eval -d 'Score predictions beside copy-last-frame, the unadapted base and the other runs; write a page to look at'
complete -c fca -n '__fish_seen_subcommand_from eval' -l run -d 'Run below runs/' -x -a '(ls runs 2>/dev/null)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l checkpoint -d 'Checkpoint of the run' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l split -d 'Whose clips to score' -x -a 'train val test'
complete -c fca -n '__fish_seen_subcommand_from eval' -l limit -d 'Score at most so many clips' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l num -d 'Predictions of each clip: their mean, and the best of them named as such' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l no-others -d 'No rows for the workspaces other runs'
complete -c fca -n '__fish_seen_subcommand_from eval' -l i2v -d 'A row for a pre-trained pipeline: cogvideox-5b-i2v, cogvideox1.5-5b-i2v, a hub id or folder' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l device -d 'cpu, cuda, cuda:1, ' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l gpus -d 'CUDA devices, each with its share of the clips; 0 for the CPU' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l processes -d 'With --gpus 0: processes on the CPU' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l pred -d 'Predicted videos' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l real -d 'True videos, paired by file name' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l given -d 'How many first frames are given; per-frame metrics leave them out' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l intersect -d 'Score the videos that both have, alike in length and size'
complete -c fca -n '__fish_seen_subcommand_from eval' -l out -d 'Write results.json and report.html there' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l metrics -d 'psnr, ssim, lpips, clip-text, clip-init, flickering, fvd, kvd, kvd-seer, fid, mini-...; joined by commas' -x
complete -c fca -n '__fish_seen_subcommand_from eval' -l protocol -d 'Ours, or Seers: its sampling, given frames, FVD and KVD' -x -a 'ours seer'
complete -c fca -n '__fish_seen_subcommand_from eval' -l fvd-preset -d 'Whose FVD' -x -a 'tf styleganv videogpt cdfvd'
complete -c fca -n '__fish_seen_subcommand_from eval' -l i3d -d 'I3D weights' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l weights-dir -d 'Where weights are looked for first' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from eval' -l ci -l no-ci -d 'Bootstrap intervals of FVD and the like too'
complete -c fca -n '__fish_seen_subcommand_from eval' -l prepend-given -d 'The true given frames in front of every prediction'
complete -c fca -n '__fish_seen_subcommand_from eval' -l strict -d 'Stop at a clip that cannot be read'
complete -c fca -n '__fish_seen_subcommand_from eval' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from eval' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from eval' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from eval' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a compare -d 'Compare results with the first of them, clip by clip: every difference with its interval (paired bootstrap)'
complete -c fca -n '__fish_seen_subcommand_from compare' -l anyway -d 'Although conditions differ, on the clips that all have'
complete -c fca -n '__fish_seen_subcommand_from compare' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from compare' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from compare' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from compare' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a demo -d 'Watch it work: draw a dataset, prepare, train, predict held-out clips, score. Five minutes on two cores'
complete -c fca -n '__fish_seen_subcommand_from demo' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from demo' -l seed -d 'Seed of all that is random' -x
complete -c fca -n '__fish_seen_subcommand_from demo' -l clips -d 'Clips of the miniature dataset' -x
complete -c fca -n '__fish_seen_subcommand_from demo' -l steps -d 'Training steps' -x
complete -c fca -n '__fish_seen_subcommand_from demo' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from demo' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from demo' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from demo' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a benchmark -d 'Measure FCA, LoRA and FCA with one part changed on the bundled miniature. Hours on a CPU; resumable'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l only -d 'This arm alone; may be repeated' -x -a 'base copy fca lora-64 lora-16 lora-96 fca-in-context fca-lora copy-17 fca-17 lora-in-place-17 lora-17 copy-17-9 fca-17-9 lora-in-place-17-9 lora-17-9 no-y-frames no-x-init patch-x-init no-mask shared-text text-in-attention no-vit random-projections block-modulation half-width'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l choose -d 'First choose learning rates, on clips of their own'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l gpus -d 'CUDA devices to use, 0 for the CPU; mini trains on the CPU where there is none' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l steps -d 'Steps of a training' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l seeds -d 'Trainings of FCA and of each LoRA' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l clips -d 'Clips to train on' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l scored -d 'Held-out clips to predict and score' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l sample-steps -d 'Denoising steps of a prediction' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l processes -d 'Runs at a time' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l minutes -d 'Stop after so long; the same line goes on' -x
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from benchmark' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a toy -d 'Draw a miniature dataset: a hand moves coloured objects, WebM videos + labels as in Something-Something V2'
complete -c fca -n '__fish_seen_subcommand_from toy' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from toy' -l clips -d 'How many clips, all splits together' -x
complete -c fca -n '__fish_seen_subcommand_from toy' -l seed -d 'Seed of all that is random' -x
complete -c fca -n '__fish_seen_subcommand_from toy' -l size -d 'Pixels of a side, even' -x
complete -c fca -n '__fish_seen_subcommand_from toy' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from toy' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from toy' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from toy' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a weights -d 'Show the pretrained weights that metrics of fca eval need: where from, here or not, checksum'
complete -c fca -n '__fish_seen_subcommand_from weights' -l fetch -d 'Fetch these weights, or all that this metric needs; may be repeated' -x -a 'i3d lpips-trunk lpips-linear clip inception'
complete -c fca -n '__fish_seen_subcommand_from weights' -l weights-dir -d 'Look here first, and fetch into it' -x -a '(__fish_complete_directories)'
complete -c fca -n '__fish_seen_subcommand_from weights' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from weights' -l verbose -s v -d 'Say more'
complete -c fca -n '__fish_seen_subcommand_from weights' -l quiet -s q -d 'Warnings and errors only'
complete -c fca -n '__fish_seen_subcommand_from weights' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a doctor -d 'Show versions, devices, memory, codecs and what --base auto would choose; works offline'
complete -c fca -n '__fish_seen_subcommand_from doctor' -l json -d 'Print the result as one JSON document'
complete -c fca -n '__fish_seen_subcommand_from doctor' -l help -s h -d 'Show help'
complete -c fca -n __fish_use_subcommand -a completions -d 'Print the completion script of a shell'
complete -c fca -n '__fish_seen_subcommand_from completions' -x -a 'bash zsh fish'
complete -c fca -n '__fish_seen_subcommand_from completions' -l help -s h -d 'Show help'
